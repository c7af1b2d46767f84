//! Promise: the package brings everything that an administrator expects, and comes, is renewed and goes without touching
//! the images.

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::{Outcome, tools};
use tempfile::TempDir;

fn project() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn has(program: &str) -> bool {
    let looked = Command::new("sh")
        .args(["-c", &format!("command -v {program}")])
        .output();
    looked.is_ok_and(|looked| looked.status.success())
}

fn kura(arguments: &[&str]) -> Outcome {
    tools::run(Command::new(env!("CARGO_BIN_EXE_kura")).args(arguments))
}

fn package(folder: &Path) -> PathBuf {
    let mut command = Command::new(project().join("packaging/build-deb.sh"));
    command.arg(env!("CARGO_BIN_EXE_kura")).arg(folder);
    let built = tools::run(&mut command);
    assert!(built.success(), "{}", built.text());
    built.stdout.trim().into()
}

/// Method: pages into a folder, completions for each shell; the verbs are in them, and what a verb changes on disk. bash and
/// zsh, where they are here, read theirs.
#[test]
fn pages_and_completions_know_every_verb() {
    let folder = TempDir::new().unwrap();
    let made = kura(&["man", folder.path().to_str().unwrap()]);
    assert!(made.success(), "{}", made.text());
    let page = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap();
    assert!(
        page("kura.1").contains("kura\\-volume"),
        "{}",
        page("kura.1")
    );
    let drain = page("kura-volume-drain.1");
    assert!(drain.contains("Changes on disk"), "{drain}");
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let text = kura(&["completions", shell]).stdout;
        assert!(
            text.contains("equalize") && text.contains("drain"),
            "{shell}: {text}"
        );
        if has(shell) && ["bash", "zsh"].contains(&shell) {
            let file = folder.path().join(shell);
            fs::write(&file, &text).unwrap();
            let read = tools::run(Command::new(shell).arg("-n").arg(&file));
            assert!(read.success(), "{shell}: {}", read.text());
        }
    }
    assert_eq!(kura(&["completions", "sh"]).code, Some(2));
    let nowhere = kura(&["man", "/nowhere/at/all"]);
    assert_eq!(nowhere.code, Some(3), "{}", nowhere.text());
}

/// Method: systemd itself reads the unit, where it is here; the program is put where the unit looks for it.
#[test]
fn the_unit_is_one_that_systemd_understands() {
    if !has("systemd-analyze") {
        println!("skipped: no systemd-analyze");
        return;
    }
    let folder = TempDir::new().unwrap();
    let unit = fs::read_to_string(project().join("contrib/systemd/kura.service")).unwrap();
    let unit = unit.replace("/usr/bin/kura", env!("CARGO_BIN_EXE_kura"));
    // Whoever tests has no such user and no such manual.
    let lines = unit.lines().filter(|line| {
        !["User=", "Group=", "Documentation="]
            .iter()
            .any(|key| line.starts_with(key))
    });
    let file = folder.path().join("kura.service");
    fs::write(&file, lines.collect::<Vec<_>>().join("\n")).unwrap();
    let read = tools::run(Command::new("systemd-analyze").arg("verify").arg(&file));
    assert!(read.success(), "{}", read.text());
    let ours = |line: &&str| line.contains("kura.service");
    let complaints: Vec<&str> = read.stderr.lines().filter(ours).collect();
    assert!(complaints.is_empty(), "{complaints:?}");
}

#[test]
fn the_package_holds_what_is_to_be_installed() {
    if !has("dpkg-deb") {
        println!("skipped: no dpkg-deb");
        return;
    }
    let folder = TempDir::new().unwrap();
    let package = package(folder.path());
    let list = tools::run(Command::new("dpkg-deb").arg("--contents").arg(&package));
    for path in [
        "./usr/bin/kura",
        "./lib/systemd/system/kura.service",
        "./etc/kura/kura.toml",
        "./usr/share/man/man1/kura.1.gz",
        "./usr/share/man/man1/kura-volume-add.1.gz",
        "./usr/share/bash-completion/completions/kura",
        "./usr/share/doc/kura/copyright",
        "./usr/share/doc/kura/docs/administrator.md",
    ] {
        let is = |line: &str| line.ends_with(path) && line.contains("root/root");
        assert!(list.stdout.lines().any(is), "{path}:\n{}", list.stdout);
    }
}

/// Method, in a Debian made for it: installed, an image's place filled, configuration changed, installed again, removed,
/// purged. User and configuration come; the changed configuration outlives the upgrade; images and state outlive all.
#[test]
fn the_package_comes_is_renewed_and_goes_and_images_stay() {
    if !common::long() {
        println!("skipped: only in the long mode (KURA_LONG=1)");
        return;
    }
    if !has("debootstrap") || !rustix::process::getuid().is_root() {
        println!("skipped: no debootstrap, or not root");
        return;
    }
    let folder = TempDir::new().unwrap();
    let package = package(folder.path());
    let root = folder.path().join("root");
    let release = std::env::var("KURA_DEBIAN").unwrap_or_else(|_| "bookworm".to_owned());
    let made = tools::run(
        Command::new("debootstrap")
            .args(["--variant=minbase", "--include=adduser", &release])
            .arg(&root),
    );
    if !made.success() {
        println!("skipped: debootstrap: {}", made.text());
        return;
    }
    let inside = |program: &str, arguments: &[&str]| {
        let mut command = Command::new("chroot");
        command.arg(&root).arg(program).args(arguments);
        command
            .env("DEBIAN_FRONTEND", "noninteractive")
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        tools::run(&mut command)
    };
    let does = |program: &str, arguments: &[&str]| {
        let outcome = inside(program, arguments);
        assert!(
            outcome.success(),
            "{program} {arguments:?}: {}",
            outcome.text()
        );
        outcome.stdout
    };
    fs::copy(&package, root.join("kura.deb")).unwrap();
    does("dpkg", &["-i", "/kura.deb"]);
    assert!(does("id", &["kura"]).contains("kura"));
    assert!(does("stat", &["-c", "%U %a", "/var/lib/kura"]).starts_with("kura 750"));
    assert!(does("stat", &["-c", "%U %G %a", "/etc/kura/kura.toml"]).starts_with("kura kura 640"));
    let version = does("kura", &["--version"]);
    assert!(version.contains(env!("CARGO_PKG_VERSION")), "{version}");

    let config = root.join("etc/kura/kura.toml");
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, format!("{text}\n# ours\n")).unwrap();
    let image = root.join("var/lib/kura/A/20260115/CT/x.dcm");
    fs::create_dir_all(image.parent().unwrap()).unwrap();
    fs::write(&image, b"an image").unwrap();
    does("dpkg", &["-i", "/kura.deb"]);
    assert!(fs::read_to_string(&config).unwrap().ends_with("# ours\n"));
    does("dpkg", &["-r", "kura"]);
    assert!(config.exists() && image.exists() && !root.join("usr/bin/kura").exists());
    does("dpkg", &["-i", "/kura.deb"]);
    assert!(fs::read_to_string(&config).unwrap().ends_with("# ours\n"));
    does("dpkg", &["-P", "kura"]);
    assert!(!root.join("etc/kura").exists());
    assert_eq!(fs::read(&image).unwrap(), b"an image");
    assert!(inside("dpkg", &["-s", "kura"]).code != Some(0));
}
