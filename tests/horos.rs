//! Horos (and OsiriX of its time), imitated request by request by `peers/horos.py`.

mod common;

use common::server::free_port;
use common::tools::{peer_script, run};
use common::{Server, Settings, files};
use serde_json::Value;

/// Method: send with 126 contexts, query as its windows do, retrieve by C-MOVE to its listener and by C-GET without
/// role selection; the script says what it saw.
#[test]
fn horos_sends_queries_and_retrieves() {
    let Some(mut script) = peer_script("horos.py") else {
        return;
    };
    let port = free_port();
    let server = Server::with(Settings::default().peer("OSIRIX", port));
    let folder = files::testdata();
    let names = [
        "petct-ct-1",
        "petct-ct-2",
        "petct-pt-1",
        "petct-pt-2",
        "name-ja-87",
    ];
    let outcome = run(script
        .args(["--called", "KURA", "--calling", "OSIRIX"])
        .args(["--port", &server.port().to_string()])
        .args(["--listen", &port.to_string()])
        .args(names.map(|name| folder.join(format!("{name}.dcm")))));
    assert!(outcome.success(), "{}", outcome.text());
    let seen: Value =
        serde_json::from_str(&outcome.stdout).unwrap_or_else(|_| panic!("{}", outcome.text()));

    assert_eq!(seen["echo"], 0, "{seen:#}");
    assert_eq!(seen["store"]["contexts"], 126, "{seen:#}");
    assert_eq!(
        seen["store"]["statuses"],
        serde_json::json!([0, 0, 0, 0, 0])
    );

    for query in seen["find"].as_object().expect("queries").values() {
        assert_eq!(query["status"], 0, "{query:#}");
        assert!(
            matches!(
                query["transfer_syntax"].as_str(),
                Some("1.2.840.10008.1.2" | "1.2.840.10008.1.2.1")
            ),
            "{query:#}"
        );
        for answer in query["answers"].as_array().expect("answers") {
            // Each key asked for comes back, if empty; the character set and the server's title always.
            assert_eq!(answer["missing"], serde_json::json!([]), "{query:#}");
            assert_eq!(answer["retrieve_ae_title"], "KURA", "{query:#}");
            assert!(answer["has_character_set"] == true, "{query:#}");
        }
    }
    let find = &seen["find"];
    let count = |name: &str| find[name]["answers"].as_array().map(Vec::len);
    let first = |name: &str| &find[name]["answers"][0];
    assert_eq!(count("study_by_patient_id"), Some(1), "{seen:#}");
    let petct = first("study_by_patient_id");
    assert_eq!(petct["NumberOfStudyRelatedInstances"], "4", "{petct:#}");
    assert_eq!(petct["InstitutionName"], "Example Hospital", "{petct:#}");
    assert_eq!(count("study_by_name"), Some(1), "{seen:#}");
    assert_eq!(
        first("study_by_japanese_name")["PatientName"],
        "Yamada^Tarou=山田^太郎=やまだ^たろう",
        "{seen:#}"
    );
    assert_eq!(count("study_on_day"), Some(2), "{seen:#}");
    assert_eq!(count("study_before"), Some(0), "{seen:#}");
    assert_eq!(count("study_date_and_time"), Some(2), "{seen:#}");
    assert_eq!(count("study_ct_or_mr"), Some(2), "{seen:#}");
    assert_eq!(count("study_by_modality"), Some(1), "{seen:#}");
    assert_eq!(count("study_blank"), Some(2), "{seen:#}");
    assert_eq!(count("series"), Some(2), "{seen:#}");
    assert_eq!(first("series")["NumberOfSeriesRelatedInstances"], "2");
    assert_eq!(count("image_of_series"), Some(2), "{seen:#}");
    assert_eq!(count("image_of_study"), Some(4), "{seen:#}");
    for answer in find["image_of_study"]["answers"].as_array().expect("list") {
        assert!(
            answer["SeriesInstanceUID"].as_str() > Some(""),
            "{answer:#}"
        );
    }

    for (name, instances) in [("study", 4), ("series", 2), ("image_list", 2)] {
        let moved = &seen["move"][name];
        assert_eq!(moved["status"], 0, "{name}: {moved:#}");
        assert_eq!(moved["received"], instances, "{name}: {moved:#}");
        assert_eq!(moved["identical"], instances, "{name}: {moved:#}");
        for pending in moved["pending"].as_array().expect("counters") {
            let counters: Vec<u64> = pending
                .as_array()
                .expect("four")
                .iter()
                .filter_map(Value::as_u64)
                .collect();
            assert_eq!(counters.len(), 4, "{name}: {moved:#}");
            assert!(counters.iter().sum::<u64>() > 0, "{name}: {moved:#}");
        }
    }
    let got = &seen["get"];
    assert_eq!(got["contexts"], 94, "{got:#}");
    assert_eq!(got["status"], 0, "{got:#}");
    assert_eq!(got["received"], 4, "{got:#}");
    assert_eq!(got["identical"], 4, "{got:#}");
}
