//! The live page in a real browser, without a window: no error, nothing loaded from elsewhere, pictures that show something, on a desk
//! and on a phone, light and dark. Skipped where there is no Chromium (Debian's package `chromium`).
//!
//! `NDT_SCREENSHOTS=/tmp/page cargo test --workspace --test monitor browser` leaves a picture of each there.

mod devtools;

use super::rig::Daemon;
use devtools::Browser;
use serde_json::json;

/// Width and height of a desk's and of a phone's screen, and whether it is a phone.
const SCREENS: [(&str, u32, u32, bool); 2] = [("desktop", 1280, 900, false), ("phone", 390, 844, true)];

/// For each canvas: whether any pixel differs from the first.
const DRAWN: &str = "[...document.querySelectorAll('canvas')].map(canvas => {
    const data = new Uint32Array(canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data.buffer);
    return [canvas.id, data.some(pixel => pixel !== data[0])];
}).filter(([, is_drawn]) => !is_drawn).map(([id]) => id).join(' ')";

#[test]
fn the_page_shows_the_stream_on_a_desk_and_on_a_phone_light_and_dark() {
    let folder = tempfile::tempdir().unwrap();
    let Some(mut browser) = Browser::start(folder.path()) else { return };
    let mut daemon = Daemon::start(|_| {});
    daemon.play();
    let origin = format!("http://{}/", daemon.address());
    let mut grounds = Vec::new();
    for (screen, width, height, mobile) in SCREENS {
        for scheme in ["light", "dark"] {
            browser.call(
                "Emulation.setDeviceMetricsOverride",
                json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": mobile }),
            );
            let feature = json!([{ "name": "prefers-color-scheme", "value": scheme }]);
            browser.call("Emulation.setEmulatedMedia", json!({ "features": feature }));
            browser.call("Page.navigate", json!({ "url": origin }));
            browser.until(
                "typeof past !== 'undefined' && past.at.length > 300 && summary !== null && !summary.ready",
            );
            assert_eq!(browser.evaluate(DRAWN), "", "{screen} {scheme}: canvases without a picture");
            let width = browser.evaluate("document.documentElement.scrollWidth - innerWidth");
            assert!(width.as_f64().unwrap() <= 0.0, "{screen} {scheme}: the page is too wide by {width}");
            assert_eq!(browser.evaluate("$('ready').textContent"), "ready");
            assert_eq!(browser.evaluate("$('grid').childElementCount"), super::rig::CHANNELS);
            grounds.push(browser.evaluate("getComputedStyle(document.body).backgroundColor"));
            browser.keep_picture(&format!("{screen}-{scheme}"));
        }
    }
    assert!(grounds[0] != grounds[1] && grounds[0] == grounds[2], "{grounds:?}");
    daemon.pause();
    browser.until("$('told').textContent.includes('expected bins, found a source that is silent')");
    assert_eq!(browser.evaluate("$('ready').textContent"), "not ready");
    browser.keep_picture("silent");
    let heard = browser.heard();
    assert_eq!(heard.errors, Vec::<String>::new());
    let elsewhere: Vec<_> =
        heard.requests.iter().filter(|url| !url.starts_with(&origin) && !url.starts_with("data:")).collect();
    assert!(!heard.requests.is_empty() && elsewhere.is_empty(), "{elsewhere:?}");
}
