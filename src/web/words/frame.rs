pub const WORDS: &[(&str, &str)] = &[
    ("Pages", "ページ"),
    ("Overview", "概要"),
    ("Studies", "検査"),
    ("Volumes", "ボリューム"),
    ("Peers", "接続先"),
    ("Forwarding", "自動転送"),
    ("Jobs", "ジョブ"),
    ("Journal", "転送記録"),
    ("Conflicts and quarantine", "競合と隔離"),
];
