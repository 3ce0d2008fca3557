//! A small writer of SVG: rectangles, lines, curves and text, in pixels from the upper left corner.

use super::palette::INK;
use std::fmt::Write as _;

/// Fonts for all text; the viewer takes the first one that it has.
const FONTS: &str = "Helvetica Neue, Helvetica, Arial, sans-serif";

/// Part of a text (start, middle or end) that is placed at the text's position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Anchor {
    Start,
    Middle,
    End,
}

/// A drawing in progress.
#[derive(Debug, Default)]
pub struct Canvas {
    body: String,
    /// Number of clip regions made so far, which is also the id of the next one.
    clips: usize,
}

impl Canvas {
    /// An empty drawing.
    pub fn new() -> Canvas {
        Canvas::default()
    }

    /// Appends one element. Writing to a string cannot fail.
    fn element(&mut self, text: std::fmt::Arguments<'_>) {
        let _ = writeln!(self.body, "{text}");
    }

    /// Draws a filled rectangle.
    pub fn rectangle(&mut self, x: f64, y: f64, width: f64, height: f64, color: &str) {
        self.element(format_args!(
            r#"<rect x="{x:.1}" y="{y:.1}" width="{width:.1}" height="{height:.1}" fill="{color}"/>"#
        ));
    }

    /// Draws the outline of a rectangle.
    pub fn frame(&mut self, [x, y]: [f64; 2], [width, height]: [f64; 2], color: &str) {
        self.element(format_args!(
            r#"<rect x="{x:.1}" y="{y:.1}" width="{width:.1}" height="{height:.1}" stroke="{color}"/>"#
        ));
    }

    /// Draws a straight line.
    pub fn line(&mut self, [x1, y1]: [f64; 2], [x2, y2]: [f64; 2], color: &str, width: f64) {
        self.element(format_args!(
            r#"<path d="M{x1:.1} {y1:.1}L{x2:.1} {y2:.1}" stroke="{color}" stroke-width="{width}"/>"#
        ));
    }

    /// Draws a filled circle.
    pub fn dot(&mut self, [x, y]: [f64; 2], radius: f64, color: &str) {
        self.element(format_args!(r#"<circle cx="{x:.1}" cy="{y:.1}" r="{radius}" fill="{color}"/>"#));
    }

    /// Draws a curve through points. Points that are not finite interrupt it; points closer than half a pixel to the one
    /// before are left out.
    pub fn curve(&mut self, points: impl IntoIterator<Item = [f64; 2]>, color: &str, width: f64) {
        let mut path = String::new();
        let mut last: Option<[f64; 2]> = None;
        for [x, y] in points {
            if !(x.is_finite() && y.is_finite()) {
                last = None;
                continue;
            }
            let is_near = |[last_x, last_y]: [f64; 2]| (x - last_x).hypot(y - last_y) < 0.5;
            if last.is_some_and(is_near) {
                continue;
            }
            let command = if last.is_some() { 'L' } else { 'M' };
            let _ = write!(path, "{command}{x:.1} {y:.1}");
            last = Some([x, y]);
        }
        if !path.is_empty() {
            self.element(format_args!(r#"<path d="{path}" stroke="{color}" stroke-width="{width}"/>"#));
        }
    }

    /// Writes one line of text.
    pub fn text(&mut self, x: f64, y: f64, anchor: Anchor, color: &str, text: &str) {
        let anchor = match anchor {
            Anchor::Start => "start",
            Anchor::Middle => "middle",
            Anchor::End => "end",
        };
        let text = escaped(text);
        self.element(format_args!(
            r#"<text x="{x:.1}" y="{y:.1}" text-anchor="{anchor}" fill="{color}">{text}</text>"#
        ));
    }

    /// Writes one line of text in larger, bold letters.
    pub fn title(&mut self, x: f64, y: f64, text: &str) {
        let text = escaped(text);
        self.element(format_args!(
            r#"<text x="{x:.1}" y="{y:.1}" font-size="16" font-weight="bold" fill="{INK}">{text}</text>"#
        ));
    }

    /// Draws `content` and cuts off what lies outside of the rectangle.
    pub fn clipped(
        &mut self,
        [x, y]: [f64; 2],
        [width, height]: [f64; 2],
        content: impl FnOnce(&mut Canvas),
    ) {
        let id = self.clips;
        self.clips += 1;
        self.element(format_args!(
            r#"<clipPath id="clip{id}"><rect x="{x:.1}" y="{y:.1}" width="{width:.1}" height="{height:.1}"/></clipPath>"#
        ));
        self.element(format_args!(r#"<g clip-path="url(#clip{id})">"#));
        content(self);
        self.element(format_args!("</g>"));
    }

    /// Finishes the document, `width` by `height` pixels.
    pub fn svg(self, width: f64, height: f64) -> String {
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height:.0}\" \
             viewBox=\"0 0 {width} {height:.0}\" font-family=\"{FONTS}\" font-size=\"12\" fill=\"none\" \
             stroke-linejoin=\"round\" stroke-linecap=\"round\">\n\
             <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n<g>\n{}</g>\n</svg>\n",
            self.body
        )
    }
}

/// Replaces the characters that have a meaning in XML, and drops control characters, which XML does not allow.
fn escaped(text: &str) -> String {
    let mut escaped = String::new();
    for c in text.chars().filter(|c| !c.is_control()) {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            c => escaped.push(c),
        }
    }
    escaped
}
