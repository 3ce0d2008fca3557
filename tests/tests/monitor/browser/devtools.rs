//! Chromium without a window, led over its debugging pipe: JSON messages that end with a zero byte, on descriptors 3 and 4.

use serde_json::{Value, json};
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// Names of the program, first the one of Debian.
const PROGRAMS: [&str; 3] = ["chromium", "chromium-browser", "google-chrome"];

/// Lowest descriptor of our ends, above those that the browser expects.
const ABOVE: RawFd = 10;

/// A running browser with one page.
pub struct Browser {
    browser: Child,
    to: File,
    from: BufReader<File>,
    session: Option<String>,
    asked: u64,
    heard: Heard,
}

/// What the page did so far.
#[derive(Debug, Default)]
pub struct Heard {
    /// Messages of errors and warnings.
    pub errors: Vec<String>,
    /// Addresses that were asked for.
    pub requests: Vec<String>,
}

/// Two ends of a pipe, the reading one first, which a program that is started does not inherit.
fn pipe() -> [OwnedFd; 2] {
    let mut ends = [0; 2];
    // SAFETY: `ends` has room for two descriptors, and each is owned by nobody else.
    unsafe {
        assert_eq!(libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC), 0);
        ends.map(|end| {
            let above = libc::fcntl(end, libc::F_DUPFD_CLOEXEC, ABOVE);
            assert!(above >= ABOVE);
            libc::close(end);
            OwnedFd::from_raw_fd(above)
        })
    }
}

impl Browser {
    /// Starts a browser whose profile is in `folder`; `None`, with the reason printed, where there is none.
    pub fn start(folder: &Path) -> Option<Browser> {
        let is_there = |program: &&str| {
            Command::new(program)
                .arg("--version")
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status()
                .is_ok()
        };
        let Some(program) = PROGRAMS.into_iter().find(is_there) else {
            println!("skipped: this machine has no Chromium (apt install chromium)");
            return None;
        };
        let ([theirs_in, to], [from, theirs_out]) = (pipe(), pipe());
        let mut command = Command::new(program);
        // Root, as in a container, has no sandbox.
        command
            .args([
                "--headless=new",
                "--no-sandbox",
                "--disable-gpu",
                "--disable-dev-shm-usage",
                "--no-first-run",
            ])
            .args(["--remote-debugging-pipe", "--hide-scrollbars", "--mute-audio"])
            .arg(format!("--user-data-dir={}", folder.display()))
            .stderr(Stdio::null());
        let ends = [&theirs_in, &theirs_out].map(std::os::fd::AsRawFd::as_raw_fd);
        // SAFETY: dup2 may be called between fork and exec.
        unsafe {
            command.pre_exec(move || {
                libc::dup2(ends[0], 3);
                libc::dup2(ends[1], 4);
                Ok(())
            });
        }
        let browser = command.spawn().unwrap();
        let (to, from) = (File::from(to), BufReader::new(File::from(from)));
        let mut started = Browser { browser, to, from, session: None, asked: 0, heard: Heard::default() };
        let target = started.call("Target.createTarget", json!({ "url": "about:blank" }));
        let attach = json!({ "targetId": target["targetId"], "flatten": true });
        let attached = started.call("Target.attachToTarget", attach);
        started.session = attached["sessionId"].as_str().map(str::to_owned);
        ["Page.enable", "Runtime.enable", "Log.enable", "Network.enable"].into_iter().for_each(|domain| {
            started.call(domain, json!({}));
        });
        Some(started)
    }

    /// Calls a method and returns its result.
    pub fn call(&mut self, method: &str, params: Value) -> Value {
        self.asked += 1;
        let mut message = json!({ "id": self.asked, "method": method, "params": params });
        if let Some(session) = &self.session {
            message["sessionId"] = json!(session);
        }
        self.to.write_all(format!("{message}\0").as_bytes()).unwrap();
        loop {
            let mut answer = Vec::new();
            self.from.read_until(0, &mut answer).unwrap();
            assert_eq!(answer.pop(), Some(0), "the browser has ended");
            let mut answer: Value = serde_json::from_slice(&answer).unwrap();
            if answer["id"] == self.asked {
                assert!(answer["error"].is_null(), "{method}: {}", answer["error"]);
                return answer["result"].take();
            }
            self.hear(&answer);
        }
    }

    fn hear(&mut self, event: &Value) {
        let params = &event["params"];
        match event["method"].as_str().unwrap_or_default() {
            "Runtime.exceptionThrown" => self.heard.errors.push(params["exceptionDetails"].to_string()),
            "Runtime.consoleAPICalled" if params["type"] != "log" => {
                self.heard.errors.push(params.to_string())
            }
            "Log.entryAdded" if matches!(params["entry"]["level"].as_str(), Some("error" | "warning")) => {
                self.heard.errors.push(params["entry"].to_string())
            }
            "Network.requestWillBeSent" => {
                self.heard.requests.extend(params["request"]["url"].as_str().map(str::to_owned));
            }
            _ => {}
        }
    }

    /// The value of an expression in the page.
    pub fn evaluate(&mut self, expression: &str) -> Value {
        let params = json!({ "expression": expression, "returnByValue": true });
        let mut result = self.call("Runtime.evaluate", params);
        assert!(result["exceptionDetails"].is_null(), "{expression}: {result}");
        result["result"]["value"].take()
    }

    /// Waits until an expression is true.
    pub fn until(&mut self, expression: &str) {
        while self.evaluate(expression) != true {
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Writes a picture of the whole page into the folder of `NDT_SCREENSHOTS`, if there is one.
    pub fn keep_picture(&mut self, name: &str) {
        let Ok(folder) = std::env::var("NDT_SCREENSHOTS") else { return };
        let picture = self.call("Page.captureScreenshot", json!({ "captureBeyondViewport": true }));
        std::fs::create_dir_all(&folder).unwrap();
        let path = Path::new(&folder).join(format!("{name}.png"));
        std::fs::write(&path, base64(picture["data"].as_str().unwrap())).unwrap();
        println!("{}", path.display());
    }

    /// What the page did so far.
    pub fn heard(&self) -> &Heard {
        &self.heard
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        drop(self.browser.kill());
        drop(self.browser.wait());
    }
}

fn base64(text: &str) -> Vec<u8> {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digits: Vec<u32> = text
        .bytes()
        .filter_map(|byte| DIGITS.iter().position(|digit| *digit == byte))
        .map(|at| at as u32)
        .collect();
    let bytes = digits.chunks(4).flat_map(|four| {
        let word = four.iter().enumerate().fold(0, |word, (at, digit)| word | digit << (18 - 6 * at));
        word.to_be_bytes()[1..four.len()].to_vec()
    });
    bytes.collect()
}
