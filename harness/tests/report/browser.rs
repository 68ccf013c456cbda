//! The HTML report in a real browser. Skipped, and said so, where no Chromium is installed.
//!
//! `ALIGN_CHECK_SCREENSHOTS=DIR` keeps the pages and pictures for people to look at.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use align_check::outcome::Outcome;
use align_check::report;

use crate::sample;

const NAMES: [&str; 4] = [
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
];

/// The first browser in `PATH`.
fn browser() -> Option<PathBuf> {
    let folders: Vec<PathBuf> = env::split_paths(&env::var_os("PATH")?).collect();
    let paths = NAMES
        .iter()
        .flat_map(|name| folders.iter().map(move |folder| folder.join(name)));
    let found = paths.into_iter().find(|path| path.is_file());
    if found.is_none() {
        eprintln!("skipped: no browser in PATH ({})", NAMES.join(", "));
    }
    found
}

/// A browser that asks nobody and keeps nothing; its console goes to stderr.
fn headless(browser: &Path, profile: &Path, dark: bool) -> Command {
    let mut command = Command::new(browser);
    command
        .args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-extensions",
            "--disable-background-networking",
            "--disable-dev-shm-usage",
            "--no-first-run",
            "--hide-scrollbars",
            "--enable-logging=stderr",
            "--v=0",
            "--virtual-time-budget=4000",
        ])
        .arg(format!(
            "--blink-settings=preferredColorScheme={}",
            u8::from(!dark)
        ))
        .arg(format!("--user-data-dir={}", profile.display()));
    command
}

struct Page {
    folder: tempfile::TempDir,
    file: PathBuf,
    browser: PathBuf,
}

impl Page {
    fn new(browser: &Path, outcome: &Outcome, probe: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("page.html");
        let page = report::html(outcome).replace("</body>", &format!("{probe}</body>"));
        fs::write(&file, page).expect("a page");
        Self {
            folder,
            file,
            browser: browser.to_owned(),
        }
    }

    fn run(&self, dark: bool, hash: &str, more: &[String]) -> (String, String) {
        let url = format!("file://{}{hash}", self.file.display());
        let output = headless(&self.browser, &self.folder.path().join("profile"), dark)
            .args(more)
            .arg(url)
            .output()
            .expect("the browser starts");
        let [out, err] = [output.stdout, output.stderr]
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        let complaint = err.lines().find(|line| line.contains("CONSOLE"));
        assert_eq!(complaint, None, "the page complains");
        (out, err)
    }

    fn dom(&self, dark: bool, hash: &str) -> String {
        self.run(dark, hash, &["--dump-dom".to_owned()]).0
    }

    /// Takes a picture and returns how many bytes it has.
    fn shot(&self, dark: bool, hash: &str, name: &str, size: [u32; 2]) -> usize {
        let file = self.folder.path().join("page.png");
        self.run(
            dark,
            hash,
            &[
                format!("--screenshot={}", file.display()),
                format!("--window-size={},{}", size[0], size[1]),
            ],
        );
        let bytes = fs::read(&file).expect("a screenshot");
        assert!(bytes.starts_with(b"\x89PNG"));
        if let Some(folder) = env::var_os("ALIGN_CHECK_SCREENSHOTS") {
            let folder = PathBuf::from(folder);
            fs::create_dir_all(&folder).expect("a folder");
            fs::copy(&file, folder.join(format!("{name}.png"))).expect("kept");
            fs::copy(&self.file, folder.join(format!("{name}.html"))).expect("kept");
        }
        bytes.len()
    }
}

/// Measures the page from within and writes what it found into an attribute of the body: what is too wide, which
/// resources it asked for, what is visible of each language, which texts leave their boxes.
const PROBE: &str = r#"<script>
addEventListener("load", () => {
  const wide = document.documentElement.scrollWidth > innerWidth;
  const asked = performance.getEntriesByType("resource").length;
  const shown = (lang) => [...document.querySelectorAll("span." + lang)].filter((e) => e.getClientRects().length).length;
  const over = [...document.querySelectorAll(".graph .node")].filter((node) => {
    const box = node.querySelector("rect").getBBox();
    return [...node.querySelectorAll("text")].some((t) => {
      const b = t.getBBox();
      return b.width > 0 && (b.x < box.x || b.x + b.width > box.x + box.width || b.y < box.y - 1);
    });
  }).length;
  // Words of no language table: all that stays is data.
  const foreign = new Set();
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let text = walker.nextNode(); text; text = walker.nextNode()) {
    const parent = text.parentElement;
    if (parent.closest("code, .said, svg, script, style, [data-lang]") || !parent.getClientRects().length) continue;
    for (const word of text.data.match(/[A-Za-z]{4,}/g) ?? []) foreign.add(word);
  }
  const open = document.querySelectorAll("details.layer[open]").length;
  const back = getComputedStyle(document.body).backgroundColor;
  document.body.dataset.probe = JSON.stringify({ wide, asked, over, open, back, foreign: [...foreign], en: shown("en"), zh: shown("zh") });
});
</script>"#;

/// What the probe wrote.
fn probed(dom: &str) -> serde_json::Value {
    let start = dom.find("data-probe=\"").expect("the page's script ran") + "data-probe=\"".len();
    let end = start + dom[start..].find('"').expect("an end");
    serde_json::from_str(&dom[start..end].replace("&quot;", "\"")).expect("JSON")
}

#[test]
fn pages_are_readable_in_a_browser() {
    let Some(browser) = browser() else { return };
    for (name, outcome, layers) in [
        ("two", sample::two(), 21),
        ("20", sample::large(20), 20),
        ("100", sample::large(100), 100),
        ("500", sample::large(500), 500),
    ] {
        let page = Page::new(&browser, &outcome, PROBE);
        for (dark, lang) in [(false, "en"), (true, "zh")] {
            let dom = page.dom(dark, &format!("#lang={lang}"));
            let probe = probed(&dom);
            let context = format!("{name} {lang}: {probe}");
            assert_eq!(probe["wide"], false, "scrolls sideways: {context}");
            assert_eq!(probe["asked"], 0, "asks the network: {context}");
            assert_eq!(probe["over"], 0, "texts leave their boxes: {context}");
            let other = if lang == "en" { "zh" } else { "en" };
            assert_eq!(probe[other], 0, "the other language shows: {context}");
            assert!(probe[lang].as_u64() > Some(50), "{context}");
            if lang == "zh" {
                let foreign = probe["foreign"].as_array().expect("a list");
                let known = ["align", "check", "float", "SQNR"];
                let untranslated: Vec<_> = foreign
                    .iter()
                    .filter(|word| !known.iter().any(|known| *word == known))
                    .collect();
                assert!(untranslated.is_empty(), "{untranslated:?}: {context}");
            }
            let back = if dark {
                "rgb(17, 17, 19)"
            } else {
                "rgb(252, 252, 253)"
            };
            assert_eq!(probe["back"], back, "{context}");
            assert_eq!(dom.matches("<details class=\"layer ").count(), layers);
            let size = page.shot(
                dark,
                &format!("#lang={lang}"),
                &format!("{name}-{lang}-{}", if dark { "dark" } else { "light" }),
                [1280, 2400],
            );
            assert!(size > 50_000, "an empty picture of {size} bytes: {context}");
        }
    }
}

#[test]
fn a_box_leads_to_its_layer() {
    let Some(browser) = browser() else { return };
    let page = Page::new(&browser, &sample::large(20), PROBE);
    assert_eq!(probed(&page.dom(false, ""))["open"], 0);
    let dom = page.dom(false, "#t0-8");
    assert_eq!(probed(&dom)["open"], 1);
    let layer = &dom[dom.find("id=\"t0-8\"").expect("the layer")..];
    let tag = &layer[..layer.find('>').expect("an end")];
    assert!(tag.contains(" open"), "{tag}");
    // So tall that nothing scrolls: pictures of a scrolled page are empty in some versions.
    let size = page.shot(false, "#t0-8", "layer", [1280, 5000]);
    assert!(size > 50_000, "an empty picture of {size} bytes");
}
