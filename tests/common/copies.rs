//! Archives with mirrors, and what their volumes hold.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::images;
use super::{Server, Settings};

/// How long copies may take to be made before a test fails.
const LIMIT: Duration = Duration::from_secs(90);

/// Volume A, and a mirror M beside it. `mirror`: lines of `[mirror]`.
pub fn with_mirror(mirror: &str) -> Settings {
    Settings {
        // `extra` stands before the other tables.
        extra: format!("[mirror]\nallow_same_device = true\npause_seconds = 0\n{mirror}\n"),
        ..Settings::default()
    }
    .volume("M", "volume-m", "mirror")
}

/// Relative paths of the images of a volume.
pub fn image_paths(volume: &Path) -> Vec<String> {
    let mut paths: Vec<String> = images::tree(volume)
        .iter()
        .filter(|path| path.extension().is_some_and(|extension| extension == "dcm"))
        .filter_map(|path| path.strip_prefix(volume).ok())
        .map(|path| path.display().to_string())
        .collect();
    paths.sort_unstable();
    paths
}

/// The same images at the same paths, byte for byte.
pub fn assert_same_images(one: &Path, other: &Path) {
    let paths = image_paths(one);
    assert_eq!(paths, image_paths(other));
    for path in paths {
        let (a, b) = (
            std::fs::read(one.join(&path)),
            std::fs::read(other.join(&path)),
        );
        assert!(a.expect("read") == b.expect("read"), "{path} differs");
    }
}

pub fn status(server: &Server) -> Value {
    server.kura_json(&["mirror", "status", "--all"])
}

/// Waits until nothing is left to copy.
pub fn wait_until_mirrored(server: &Server) -> Value {
    let start = Instant::now();
    loop {
        let status = status(server);
        if status["state"] == "done" {
            return status;
        }
        assert!(start.elapsed() < LIMIT, "{status}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Runs a verb that must do what it is told; its screen.
pub fn kura(server: &Server, arguments: &[&str]) -> String {
    let outcome = server.kura(arguments);
    assert_eq!(outcome.code, Some(0), "{arguments:?}: {}", outcome.text());
    outcome.stdout
}
