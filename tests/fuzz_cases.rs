//! What a fuzzer once found, and what it never may: each input of `testdata/fuzz/` goes through the code that it is for.
//!
//! The targets are those of `fuzz/`, which says what holds of each; a fuzzer is not needed here.

use std::path::Path;

#[path = "../fuzz/src/lib.rs"]
mod targets;

/// Method: every file of `testdata/fuzz/TARGET/`, within the memory that the target may hold.
#[test]
fn what_was_found_once_does_not_come_back() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/fuzz");
    let mut count = 0;
    for target in std::fs::read_dir(&folder).expect("testdata/fuzz") {
        let target = target.expect("a folder").path();
        let name = target.file_name().unwrap_or_default().to_string_lossy();
        for case in std::fs::read_dir(&target).expect("a folder of cases") {
            let case = case.expect("a case").path();
            println!("{}", case.display());
            targets::run(&name, &std::fs::read(&case).expect("a case"));
            count += 1;
        }
    }
    assert!(count > 0, "there are no cases in {}", folder.display());
}

/// Method: this project's own files, whole and cut, as each target's input.
#[test]
fn every_target_takes_what_it_is_given() {
    let testdata = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata");
    let mut inputs = vec![Vec::new(), vec![0; 300], vec![0xFF; 300]];
    for name in [
        "ct-explicit-le.dcm",
        "nested-sequences.dcm",
        "ct-deflated.dcm",
    ] {
        let bytes = std::fs::read(testdata.join(name)).expect("testdata");
        inputs.push(bytes[..bytes.len().min(2_000)].to_vec());
        inputs.push(bytes[132..bytes.len().min(9_000)].to_vec());
    }
    for target in targets::TARGETS {
        for input in &inputs {
            targets::run(target.name, input);
        }
    }
}

/// Inputs of each target that every run of the tests tries.
const USUAL_COUNT: u64 = 300;

/// Method: the seeds of each target, changed by lot; a panic tells the file that its input was written to. With
/// `KURA_LONG` a minute for each target (`KURA_FUZZ_SECONDS`), of those that `KURA_FUZZ_TARGETS` names; `KURA_SEED` repeats
/// a run.
#[test]
fn no_target_minds_changes_by_lot() {
    let number = |name: &str| -> Option<u64> { std::env::var(name).ok()?.parse().ok() };
    let is_long = std::env::var_os("KURA_LONG").is_some();
    let seed = number("KURA_SEED").unwrap_or(match is_long {
        true => u64::from(std::process::id()),
        false => 1,
    });
    let (time, most) = match is_long {
        true => (number("KURA_FUZZ_SECONDS").unwrap_or(60), u64::MAX),
        false => (30, USUAL_COUNT),
    };
    let only = std::env::var("KURA_FUZZ_TARGETS").unwrap_or_default();
    let scratch = tempfile::tempdir().expect("a folder");
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let samples = std::env::var_os("KURA_SAMPLES").filter(|_| is_long);
    let samples = samples.as_deref().map(Path::new);
    targets::corpus::make(scratch.path(), &root.join("testdata"), samples);
    println!("KURA_SEED={seed}");
    let mut found = Vec::new();
    for target in targets::TARGETS {
        if !only.is_empty() && !only.split_whitespace().any(|name| name == target.name) {
            continue;
        }
        let folder = scratch.path().join(target.name);
        let mut paths: Vec<_> = std::fs::read_dir(folder)
            .expect("seeds")
            .map(|entry| entry.expect("a seed").path())
            .collect();
        paths.sort();
        let seeds = paths
            .iter()
            .map(|path| std::fs::read(path).expect("a seed"));
        let mut seeds: Vec<Vec<u8>> = seeds.collect();
        // Small ones are tried often, large ones in a long run.
        seeds.retain(|seed| is_long || seed.len() < 4_096);
        seeds.push(vec![0; 64]);
        let mut lot = targets::blind::Lot::new(seed);
        let current = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{}.input", target.name));
        let mut slowest = std::time::Duration::ZERO;
        let mut run = |input: &[u8]| {
            // Also for who is aborted.
            std::fs::write(&current, input).expect("the input");
            let begun = std::time::Instant::now();
            let run = || targets::run(target.name, input);
            if std::panic::catch_unwind(run).is_err() {
                let kept = current.with_extension(format!("{:08x}", crc32fast::hash(input)));
                std::fs::copy(&current, &kept).expect("the input");
                found.push(kept);
            }
            slowest = slowest.max(begun.elapsed());
        };
        let time = std::time::Duration::from_secs(time);
        let count = targets::blind::run(&seeds, &mut lot, time, most, &mut run);
        let _ = std::fs::remove_file(&current);
        println!("{}: {count} inputs, the slowest {slowest:?}", target.name);
    }
    assert!(found.is_empty(), "found: {found:#?}");
}

/// For `make fuzz`, which says where: this takes no fuzzer either, and what it needs is built already.
#[test]
#[ignore = "makes what a fuzzer begins with"]
fn corpus() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let samples = std::env::var_os("KURA_SAMPLES");
    let count = targets::corpus::make(
        &root.join("fuzz/corpus"),
        &root.join("testdata"),
        samples.as_deref().map(Path::new),
    );
    println!("{count} inputs in fuzz/corpus");
}
