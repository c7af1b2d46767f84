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
    ("To the content", "本文へ"),
    ("Sign out", "サインアウト"),
    (
        "The server does not answer; what is shown is from before.",
        "サーバーが応答しません。表示は以前の内容です。",
    ),
    ("Back, without changing anything", "何も変更せずに戻る"),
];
