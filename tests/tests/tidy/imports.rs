//! No two files of a crate import each other in a circle, directly or by a longer way.
//!
//! The check reads paths out of the text: `use` lines, and paths that start with `crate`, `self` or `super`. A file leads to
//! the file that the longest part of such a path names. A module owns its submodules, so a submodule may use what its own
//! ancestors define. `lib.rs` and `main.rs` own the whole crate and are left out.

use crate::{code, sources, workspace};
use std::collections::{BTreeMap, BTreeSet};

/// A file of a crate, as the path of its module.
type Module = Vec<String>;

/// For each file, the files that it imports.
type Imports = BTreeMap<Module, BTreeSet<Module>>;

/// `src/engine/native.rs` is the module `engine::native`.
fn module(file: &str) -> Module {
    let path = file.trim_end_matches(".rs").trim_end_matches("/mod");
    path.split('/').map(str::to_owned).collect()
}

fn is_ancestor(of: &[String], module: &[String]) -> bool {
    module.len() < of.len() && of.starts_with(module)
}

/// The imports among `files`: paths from `src/`, with their texts.
fn imports(files: &[(String, String)]) -> Imports {
    let modules: BTreeSet<Module> = files.iter().map(|(file, _)| module(file)).collect();
    let mut imports = Imports::new();
    for (file, text) in files {
        let from = module(file);
        let text: String = code(text).map(|(_, line)| format!("{line}\n")).collect();
        let found = paths(&text).into_iter().filter_map(|path| resolve(&path, &from, &modules));
        let to = found.filter(|to| *to != from && !is_ancestor(&from, to)).collect();
        imports.insert(from, to);
    }
    imports
}

/// The file that `path`, written in the file `from`, leads to; `None` where it leaves the crate or names the crate's root.
fn resolve(path: &str, from: &[String], modules: &BTreeSet<Module>) -> Option<Module> {
    let mut parts: Vec<&str> = path.split("::").map(str::trim).collect();
    let mut base = from.to_vec();
    match parts[0] {
        "crate" => base.clear(),
        "self" => {}
        "super" => drop(base.pop()),
        child => {
            base.push(child.to_owned());
            modules.get(&base)?;
        }
    }
    parts.remove(0);
    while parts.first() == Some(&"super") {
        base.pop();
        parts.remove(0);
    }
    base.extend(parts.into_iter().map(str::to_owned));
    while !base.is_empty() && !modules.contains(&base) {
        base.pop();
    }
    (!base.is_empty()).then_some(base)
}

/// All paths that a text uses: those of `use` lines with their braces multiplied out, and those within code.
fn paths(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut rest = text;
    let mut body = String::new();
    while let Some(at) = use_line(rest) {
        body += &rest[..at];
        let tree = &rest[at + "use ".len()..];
        let end = tree.find(';').unwrap_or(tree.len());
        multiply_out("", &tree[..end], &mut found);
        rest = &tree[end..];
    }
    body += rest;
    let is_name = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
    for root in ["crate::", "self::", "super::"] {
        for (at, _) in body.match_indices(root) {
            let is_start = !body[..at].ends_with(is_name);
            let end = body[at..].find(|c| !is_name(c)).map_or(body.len(), |length| at + length);
            if is_start {
                found.push(body[at..end].trim_end_matches(':').to_owned());
            }
        }
    }
    found
}

/// Where the next `use` keyword starts that begins an item.
fn use_line(text: &str) -> Option<usize> {
    let starts_item = |at: usize| {
        let line = text[..at].rsplit('\n').next().unwrap_or_default().trim();
        line.is_empty() || (line.starts_with("pub") && !line.contains('{'))
    };
    text.match_indices("use ").map(|(at, _)| at).find(|at| starts_item(*at))
}

/// `a::{b, c::{d, e}}` is `a::b`, `a::c::d` and `a::c::e`.
fn multiply_out(before: &str, tree: &str, found: &mut Vec<String>) {
    let tree = tree.trim();
    let Some((head, inner)) = tree.split_once('{') else {
        let path = tree.split(" as ").next().unwrap_or_default();
        found.push(format!("{before}{}", path.split_whitespace().collect::<String>()));
        return;
    };
    let before = format!("{before}{}", head.trim());
    let inner = inner.trim_end().trim_end_matches('}');
    let mut depth = 0;
    let mut start = 0;
    for (at, c) in inner.char_indices().chain([(inner.len(), ',')]) {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                if !inner[start..at].trim().is_empty() {
                    multiply_out(&before, &inner[start..at], found);
                }
                start = (at + 1).min(inner.len());
            }
            _ => {}
        }
    }
}

/// A circle, if there is one: files each of which imports the next, and the last the first.
fn circle(imports: &Imports) -> Option<Vec<Module>> {
    let mut done = BTreeSet::new();
    for start in imports.keys() {
        let mut way = Vec::new();
        if let Some(circle) = walk(start, imports, &mut way, &mut done) {
            return Some(circle);
        }
    }
    None
}

fn walk(
    at: &Module,
    imports: &Imports,
    way: &mut Vec<Module>,
    done: &mut BTreeSet<Module>,
) -> Option<Vec<Module>> {
    if let Some(first) = way.iter().position(|module| module == at) {
        return Some(way[first..].to_vec());
    }
    if done.contains(at) {
        return None;
    }
    way.push(at.clone());
    let found = imports.get(at).into_iter().flatten().find_map(|next| walk(next, imports, way, done));
    way.pop();
    done.insert(at.clone());
    found
}

fn named(circle: &[Module]) -> String {
    let names: Vec<String> = circle.iter().chain(circle.first()).map(|module| module.join("::")).collect();
    names.join(" -> ")
}

#[test]
fn no_files_import_each_other_in_a_circle() {
    let sources = sources();
    let mut circles = Vec::new();
    for name in ["protocol", "daemon", "trainer", "replay"] {
        let src = format!("{name}/src/");
        let files: Vec<(String, String)> = sources
            .iter()
            .filter_map(|(file, text)| Some((file.strip_prefix(&src)?.to_owned(), text.clone())))
            .filter(|(file, _)| !["lib.rs", "main.rs"].contains(&file.as_str()))
            .collect();
        assert!(files.len() > 5, "expected the sources in {}, found {}", workspace().display(), files.len());
        let mut imports = imports(&files);
        println!(
            "{name}: {} files, {} imports",
            files.len(),
            imports.values().map(BTreeSet::len).sum::<usize>()
        );
        while let Some(circle) = circle(&imports) {
            circles.push(format!("{name}: {}", named(&circle)));
            // Without one of its imports, the next circle can be found.
            let last = circle.last().cloned().unwrap_or_default();
            imports.entry(last).or_default().remove(&circle[0]);
        }
    }
    assert!(circles.is_empty(), "{} circles:\n{}", circles.len(), circles.join("\n"));
}

#[test]
fn a_circle_is_found_by_whichever_way_it_is_written() {
    let files = |texts: &[(&str, &str)]| -> Vec<(String, String)> {
        texts.iter().map(|(file, text)| ((*file).to_owned(), (*text).to_owned())).collect()
    };
    for (texts, expected) in [
        (
            &[("a.rs", "use crate::b::B;"), ("b.rs", "use crate::{c, a::A};"), ("c.rs", "")][..],
            Some("a -> b -> a"),
        ),
        (
            &[("a.rs", "fn f() { crate::b::f() }"), ("b.rs", "use crate::c;"), ("c.rs", "use super::a;")],
            Some("a -> b -> c -> a"),
        ),
        (
            &[("a.rs", "use self::x::X;"), ("a/x.rs", "use crate::b;"), ("b.rs", "use crate::a::A;")],
            Some("a -> a::x -> b -> a"),
        ),
        // A module and the submodules that it owns.
        (&[("a.rs", "mod x; use x::X;"), ("a/x.rs", "use super::A;")], None),
        // Two submodules of one module.
        (
            &[("a.rs", ""), ("a/x.rs", "use super::y::Y;"), ("a/y.rs", "use crate::a::x::{X, Z};")],
            Some("a::x -> a::y -> a::x"),
        ),
        // Comments and a file's own tests do not count.
        (
            &[("a.rs", "use crate::b;"), ("b.rs", "// crate::a\n#[cfg(test)]\nmod tests { use crate::a; }")],
            None,
        ),
    ] {
        let found = circle(&imports(&files(texts))).map(|circle| named(&circle));
        assert_eq!(found.as_deref(), expected, "{texts:?}");
    }
}
