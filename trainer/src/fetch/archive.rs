//! The archive's API: the files of a version, their digests, and their bytes from a given byte on.

use super::{Event, FetchError, FetchOptions, RemoteFile, Set, Tell};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::io::Read;
use std::time::Duration;
use ureq::http::{Response, header};
use ureq::{Agent, Body};

/// Largest number of redirects: the archive redirects once, to its storage; a mirror may redirect more often.
pub const REDIRECTS_MAX: u32 = 5;

const WAIT_MAX: Duration = Duration::from_secs(30);
const CONNECT: Duration = Duration::from_secs(30);
/// Largest JSON response, bytes. The metadata of a file take some kB, a page of the listing less than 100 kB.
const JSON_BYTES_MAX: u64 = 8 << 20;
const JSON_TIME: Duration = Duration::from_secs(120);
const PAGES_MAX: usize = 50;
const NAME_BYTES_MAX: usize = 200;

/// A failed try.
pub enum Trouble {
    /// Another try may help.
    Passing(String),
    /// Another try would fail as well.
    Lasting(FetchError),
}

impl From<FetchError> for Trouble {
    fn from(error: FetchError) -> Trouble {
        Trouble::Lasting(error)
    }
}

/// Counts the tries in a row that received nothing, and waits between them.
pub struct Tries<'a> {
    options: &'a FetchOptions,
    failed: u32,
}

impl<'a> Tries<'a> {
    pub fn new(options: &'a FetchOptions) -> Tries<'a> {
        Tries { options, failed: 0 }
    }

    pub fn progressed(&mut self) {
        self.failed = 0;
    }

    /// Waits for the next try, or fails if there is none left.
    pub fn failed(&mut self, what: &str, why: &str, tell: &mut Tell) -> Result<(), FetchError> {
        self.failed += 1;
        if self.failed >= self.options.tries {
            let (what, why) = (what.to_owned(), why.to_owned());
            return Err(FetchError::Connection { what, tries: self.failed, why });
        }
        let doubled = self.options.retry_wait.saturating_mul(1 << (self.failed - 1).min(16));
        let wait = doubled.min(WAIT_MAX);
        tell(Event::Retry { what, why, wait });
        std::thread::sleep(wait);
        Ok(())
    }
}

/// The bytes of a file from a given byte on.
pub struct Content {
    /// Number of bytes at the start of `body` that were not requested, because the server does not support ranges.
    pub skip: u64,
    /// The bytes that the server sends.
    pub body: Box<dyn Read>,
}

#[derive(Deserialize)]
struct Page {
    next: Option<String>,
    results: Vec<Asset>,
}

#[derive(Deserialize)]
struct Asset {
    asset_id: String,
    path: String,
}

#[derive(Deserialize)]
struct Metadata {
    #[serde(rename = "contentSize")]
    bytes: u64,
    #[serde(default)]
    digest: BTreeMap<String, String>,
}

pub struct Archive<'a> {
    pub options: &'a FetchOptions,
    agent: Agent,
    api: &'a str,
}

impl<'a> Archive<'a> {
    pub fn new(options: &'a FetchOptions) -> Result<Archive<'a>, FetchError> {
        let api = options.api.trim_end_matches('/');
        let host = api.strip_prefix("https://").or_else(|| api.strip_prefix("http://"));
        if host.is_none_or(|host| host.is_empty() || host.contains(['?', '#', ' '])) {
            return Err(FetchError::Api { found: options.api.clone() });
        }
        // By default the client uses the proxy in ALL_PROXY, HTTPS_PROXY or HTTP_PROXY, except for the hosts in NO_PROXY.
        let agent = Agent::config_builder()
            .https_only(api.starts_with("https://"))
            .http_status_as_error(false)
            .max_redirects(REDIRECTS_MAX)
            .user_agent(concat!("ndt-train/", env!("CARGO_PKG_VERSION")))
            .accept_encoding("identity")
            .timeout_resolve(Some(CONNECT))
            .timeout_connect(Some(CONNECT))
            .timeout_recv_response(Some(options.stall))
            .timeout_per_read(Some(options.stall))
            .timeout_per_write(Some(options.stall))
            .build()
            .new_agent();
        Ok(Archive { options, agent, api })
    }

    /// Lists the NWB files of a version, in the order of their names.
    pub fn files(&self, set: &Set, tell: &mut Tell) -> Result<Vec<RemoteFile>, FetchError> {
        let what = format!("dandiset {}/{}", set.dandiset, set.version);
        let reply =
            |expected, found: &str| FetchError::Reply { what: what.clone(), expected, found: found.into() };
        let base = format!("{}/dandisets/{}/versions/{}/assets/", self.api, set.dandiset, set.version);
        let mut assets: BTreeMap<String, String> = BTreeMap::new();
        // Pages are counted here. The URL in `next` is not followed, because it may lead anywhere.
        for page in 1.. {
            if page > PAGES_MAX {
                return Err(reply("a listing with an end", "ever more pages"));
            }
            let url = format!("{base}?page={page}&page_size=100");
            let listing: Page = self.json(&what, "a page of its assets", &url, tell)?;
            for asset in listing.results.into_iter().filter(|asset| asset.path.ends_with(".nwb")) {
                let name = file_name(&asset.path)?.to_owned();
                let hexadecimal = |c: char| c.is_ascii_hexdigit() || c == '-';
                if asset.asset_id.is_empty() || !asset.asset_id.chars().all(hexadecimal) {
                    return Err(reply("asset ids of hexadecimal digits", &asset.asset_id));
                }
                if assets.insert(name, asset.asset_id).is_some() {
                    return Err(reply("NWB files of different names", &asset.path));
                }
            }
            if listing.next.is_none() {
                break;
            }
        }
        if assets.is_empty() {
            return Err(reply("NWB files", "none"));
        }
        assets.into_iter().map(|(name, asset)| self.describe(&base, name, asset, tell)).collect()
    }

    /// Length and digest of a file.
    fn describe(
        &self,
        base: &str,
        name: String,
        asset: String,
        tell: &mut Tell,
    ) -> Result<RemoteFile, FetchError> {
        let url = format!("{base}{asset}/");
        let metadata: Metadata = self.json(&name, "metadata with contentSize and digest", &url, tell)?;
        let Some(digest) = metadata.digest.get("dandi:sha2-256") else {
            return Err(FetchError::NoDigest { name });
        };
        let sha256 = digest.to_ascii_lowercase();
        if sha256.len() != 64 || !sha256.chars().all(|c| c.is_ascii_hexdigit()) {
            let expected = "a sha256 of 64 hexadecimal digits";
            return Err(FetchError::Reply { what: name, expected, found: format!("{digest:?}") });
        }
        Ok(RemoteFile { name, bytes: metadata.bytes, sha256, asset })
    }

    /// Tries once to get the bytes of `file` from byte `from` on.
    pub fn content(&self, file: &RemoteFile, from: u64) -> Result<Content, Trouble> {
        let url = format!("{}/assets/{}/download/", self.api, file.asset);
        let mut request = self.agent.get(&url);
        if from > 0 {
            request = request.header(header::RANGE, format!("bytes={from}-"));
        }
        let response = check(&file.name, request.call())?;
        let ranged = response.status() == 206;
        let starts_at = if ranged { range_start(&file.name, &response)? } else { 0 };
        if starts_at > from || (ranged && starts_at != from) {
            let (what, found) = (file.name.clone(), format!("one from byte {starts_at}"));
            return Err(FetchError::Reply { what, expected: "the range that was asked for", found }.into());
        }
        let body = response.into_body();
        // A range may come in pieces, but a complete file of another length is another file.
        let end = body.content_length().map(|length| starts_at.saturating_add(length));
        if let Some(found) = end.filter(|&end| end > file.bytes || (!ranged && end != file.bytes)) {
            let (name, found) = (file.name.clone(), found.to_string());
            return Err(FetchError::Length { name, expected: file.bytes, found }.into());
        }
        // The limit is one byte more than expected, so that a longer file is noticed.
        let limit = file.bytes.saturating_sub(starts_at).saturating_add(1);
        let reader = body.into_with_config().limit(u64::MAX).reader().take(limit);
        Ok(Content { skip: from - starts_at, body: Box::new(reader) })
    }

    fn json<T: DeserializeOwned>(
        &self,
        what: &str,
        expected: &'static str,
        url: &str,
        tell: &mut Tell,
    ) -> Result<T, FetchError> {
        let ask = || -> Result<Vec<u8>, Trouble> {
            let request = self.agent.get(url).config().timeout_global(Some(JSON_TIME)).build();
            let body = check(what, request.header(header::ACCEPT, "application/json").call())?.into_body();
            let mut bytes = Vec::new();
            let mut reader = body.into_with_config().limit(u64::MAX).reader().take(JSON_BYTES_MAX + 1);
            reader.read_to_end(&mut bytes).map_err(|error| Trouble::Passing(error.to_string()))?;
            Ok(bytes)
        };
        let reply = |found| FetchError::Reply { what: what.to_owned(), expected, found };
        let mut tries = Tries::new(self.options);
        let bytes = loop {
            match ask() {
                Ok(bytes) => break bytes,
                Err(Trouble::Lasting(error)) => return Err(error),
                Err(Trouble::Passing(why)) => tries.failed(what, &why, tell)?,
            }
        };
        if bytes.len() as u64 > JSON_BYTES_MAX {
            return Err(reply(format!("more than {JSON_BYTES_MAX} bytes")));
        }
        serde_json::from_slice(&bytes).map_err(|error| reply(error.to_string()))
    }
}

/// A response with contents, or the reason why there is none.
fn check(what: &str, answer: Result<Response<Body>, ureq::Error>) -> Result<Response<Body>, Trouble> {
    let what = || what.to_owned();
    let response = answer.map_err(|error| match error {
        ureq::Error::RequireHttpsOnly(url) => {
            let found = url.split('?').next().unwrap_or_default().to_owned();
            Trouble::Lasting(FetchError::Insecure { what: what(), found })
        }
        ureq::Error::TooManyRedirects => Trouble::Lasting(FetchError::Redirects { what: what() }),
        error => Trouble::Passing(error.to_string()),
    })?;
    match response.status().as_u16() {
        200 | 206 => Ok(response),
        status @ (408 | 429 | 500..) => Err(Trouble::Passing(format!("status {status}"))),
        found => Err(FetchError::Status { what: what(), found }.into()),
    }
}

/// The first byte of a partial response: `bytes 100-199/200` starts at 100.
fn range_start(what: &str, response: &Response<Body>) -> Result<u64, FetchError> {
    let range = response.headers().get(header::CONTENT_RANGE);
    let range = range.and_then(|range| range.to_str().ok()).unwrap_or_default();
    let start = range.strip_prefix("bytes ").and_then(|range| range.split('-').next());
    start.and_then(|start| start.parse().ok()).ok_or_else(|| FetchError::Reply {
        what: what.to_owned(),
        expected: "a content range in bytes",
        found: format!("{range:?}"),
    })
}

/// The last part of an asset's path, if all parts of the path are plain names.
fn file_name(path: &str) -> Result<&str, FetchError> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_+.".contains(c);
    let good = |name: &str| {
        !name.is_empty() && !name.starts_with('.') && name.len() <= NAME_BYTES_MAX && name.chars().all(plain)
    };
    let refused = || FetchError::AssetPath { found: path.chars().take(NAME_BYTES_MAX).collect() };
    if !path.split('/').all(good) {
        return Err(refused());
    }
    path.rsplit('/').next().ok_or_else(refused)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_api_of_https_never_leads_to_http() {
        // The client asks this of every hop, the first one and each redirect.
        let options = FetchOptions::default();
        let archive = Archive::new(&options).unwrap();
        let refused = check("session.nwb", archive.agent.get("http://127.0.0.1:9/x?Signature=secret").call());
        let Err(Trouble::Lasting(error)) = refused else { panic!("expected a lasting trouble") };
        assert_eq!(
            error.to_string(),
            "session.nwb: expected https all the way, found a redirect to http://127.0.0.1:9/x"
        );
    }

    #[test]
    fn only_plain_names_become_files() {
        let plain = "sub-Jenkins/sub-Jenkins_ses-small_desc-train_behavior+ecephys.nwb";
        assert_eq!(file_name(plain).unwrap(), "sub-Jenkins_ses-small_desc-train_behavior+ecephys.nwb");
        let long = format!("{}.nwb", "a".repeat(NAME_BYTES_MAX));
        let odd = [
            "../a.nwb",
            "/etc/a.nwb",
            "a/../b.nwb",
            "a//b.nwb",
            ".a.nwb",
            "a\\b.nwb",
            "a\0.nwb",
            "a/",
            "",
            "a b",
            "é.nwb",
        ];
        for path in odd.into_iter().chain([long.as_str()]) {
            assert!(matches!(file_name(path), Err(FetchError::AssetPath { .. })), "{path:?}");
        }
    }

    #[test]
    fn the_sets_have_the_published_numbers() {
        let named = |name| Set::named(name).map(|set| format!("{}/{}", set.dandiset, set.version));
        assert_eq!(named("mc_maze_small").unwrap(), "000140/0.220113.0408");
        assert_eq!(named("mc_maze").unwrap(), named("mc_maze_full").unwrap());
        let error = named("mc_maze_tiny").unwrap_err().to_string();
        assert!(error.ends_with("mc_maze_full, found mc_maze_tiny"), "{error}");
    }
}
