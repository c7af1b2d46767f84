//! A loopback that loses packets: in a network namespace of its own, in which a test runs once more.

use std::process::{Command, Stdio};
use std::time::Duration;

/// The outer network namespace, told to the test that runs in one of its own.
const OUTSIDE: &str = "KURA_TEST_OUTSIDE";

fn namespace() -> String {
    let link = std::fs::read_link("/proc/self/ns/net").expect("a network namespace");
    link.display().to_string()
}

fn does(program: &str, arguments: &str) -> bool {
    let mut command = Command::new(program);
    let command = command.args(arguments.split(' ')).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// So many of a hundred packets are lost from now on, in a namespace made for that. False: this system cannot.
pub fn lose(percent: u64) -> bool {
    assert_ne!(std::env::var(OUTSIDE), Ok(namespace()), "not everybody's");
    if does(
        "tc",
        &format!("qdisc replace dev lo root netem loss {percent}%"),
    ) {
        return true;
    }
    does("tc", "qdisc add dev lo clsact");
    // Classic BPF: a random number above the limit goes on (-1, as if there were no filter), another is dropped (2).
    let limit = percent * (1 << 32) / 100 - 1;
    let code = format!("4,32 0 0 4294963256,37 0 1 {limit},6 0 0 4294967295,6 0 0 2");
    let filter = "filter replace dev lo egress pref 1 handle 1 bpf da bytecode";
    let mut command = Command::new("tc");
    let command = command.args(filter.split(' ')).arg(code);
    let command = command.stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// Whether this is the test in the namespace of its own.
pub fn is_inside() -> bool {
    std::env::var_os(OUTSIDE).is_some()
}

/// Runs a test of this program once more, in there.
pub fn run(name: &str) {
    if !does("unshare", "--net true") || !does("tc", "-V") {
        eprintln!("skipped: no network namespace can be made here (unshare, iproute2, root)");
        return;
    }
    let this = std::env::current_exe().expect("this program");
    let mut command = Command::new("unshare");
    command.arg("--net").arg(this);
    command.args(["--exact", name, "--nocapture"]);
    command.env(OUTSIDE, namespace());
    let inside = super::tools::run_within(&mut command, Duration::from_secs(1_800));
    eprintln!("{}", inside.stderr);
    assert!(inside.success(), "{}", inside.text());
}

/// In there: so many of a hundred packets are lost from now on. False, and a printed reason: this system cannot.
pub fn begin(percent: u64) -> bool {
    assert!(does("ip", "link set lo up"), "a loopback");
    let done = lose(percent);
    if !done {
        eprintln!("skipped: this system can lose no packets (netem, cls_bpf)");
    }
    done
}
