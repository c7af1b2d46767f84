//! What was received reaches its peer, and goes once, however often the process is killed.

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use common::forwarding::{PATIENCE, list, list_stopped, settings};
use common::images::{ALL, Image};
use common::{Random, Server, Sink, long};
use kura::forward::State;

fn by_study<'a>(all: impl Iterator<Item = &'a (String, String)>) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    for (_, study) in all {
        *counts.entry(study.clone()).or_default() += 1;
    }
    counts
}

/// Method: while new studies and images of earlier ones come, and earlier ones are sent, the process is killed at a moment
/// chosen by lot. What the outbox says then, read without a server, is what was recorded: in the next round no study is
/// sent more instances than were left by that. In the end each instance that was answered 0000H is there.
#[test]
fn after_kills_everything_arrives_and_nothing_goes_again_whose_success_was_recorded() {
    let rounds = if long() { 30 } else { 4 };
    let mut random = Random::from_environment("forward_kill");
    let sink = Sink::start();
    let mut server = Server::with(settings(&[("ONE", sink.port())]));
    let mut answered: BTreeSet<String> = BTreeSet::new();
    // SOP and Study Instance UID of all that was tried to be stored.
    let mut tried: BTreeSet<(String, String)> = BTreeSet::new();
    let mut arrived: BTreeSet<String> = BTreeSet::new();
    let mut recorded: BTreeMap<String, u64> = BTreeMap::new();
    for round in 0..=rounds {
        let last = round == rounds;
        // Of a new study, and of an earlier one.
        let mut images: Vec<Image> = (0..40).map(|n| Image::new(round, n, 2_000)).collect();
        let earlier = random.between(0, u64::from(round) + 1) as u32;
        images.extend((0..5).map(|n| Image::new(earlier, 100 + round * 10 + n, 2_000)));
        let kill_after = match last {
            true => Duration::MAX,
            false => Duration::from_millis(random.between(200, 3_000)),
        };
        let begun = Instant::now();
        let mut client = Some(server.associate(ALL));
        let mut images = images.into_iter();
        loop {
            if begun.elapsed() >= kill_after {
                break;
            }
            match (&mut client, images.next()) {
                (Some(open), Some(image)) => {
                    tried.insert((image.sop.clone(), image.study.clone()));
                    let (status, comment) = image.send(open).expect("C-STORE");
                    assert_eq!(status, 0, "{comment:?}");
                    answered.insert(image.sop);
                }
                (open, _) => {
                    if let Some(client) = open.take() {
                        let _ = client.release();
                    }
                    let (items, _) = list(&server);
                    let all_sent = items.iter().all(|item| item.state == State::Sent);
                    let total: u64 = items.iter().map(|item| item.total_count).sum();
                    if last && all_sent && total >= answered.len() as u64 {
                        break;
                    }
                    assert!(begun.elapsed() < PATIENCE, "{items:?}");
                    std::thread::sleep(Duration::from_millis(20));
                }
            }
        }
        server.kill();
        let sent: Vec<(String, String)> = sink
            .take()
            .into_iter()
            .map(|one| {
                let study = common::elements::read(&one.data_set, &one.transfer_syntax)
                    .and_then(|values| common::elements::find(&values, 0x0020, 0x000D))
                    .expect("a study");
                (one.sop_instance, study)
            })
            .collect();
        let there_are = by_study(tried.iter());
        for (study, count) in by_study(sent.iter()) {
            let left = there_are[&study] - recorded.get(&study).unwrap_or(&0);
            assert!(
                count <= left,
                "round {round}: {count} instances of {study}, of which {left} were left"
            );
        }
        arrived.extend(sent.into_iter().map(|(sop, _)| sop));
        let items = list_stopped(&server).into_iter();
        recorded = items
            .map(|item| (item.study_instance_uid, item.sent_count))
            .collect();
        let sum: u64 = recorded.values().sum();
        assert!(sum <= arrived.len() as u64, "recorded what did not arrive");
        eprintln!(
            "round {round}: {} answered, {} arrived, {sum} recorded",
            answered.len(),
            arrived.len()
        );
        if !last {
            server.restart();
        }
    }
    let missing: Vec<&String> = answered.difference(&arrived).collect();
    assert!(missing.is_empty(), "never sent: {missing:?}");
}
