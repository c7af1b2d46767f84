pub const WORDS: &[(&str, &str)] = &[
    ("Refused", "拒否されました"),
    ("Sign in", "サインイン"),
    ("Sign out", "サインアウト"),
    ("User name", "ユーザー名"),
    ("Password", "パスワード"),
    (
        "User name and password do not fit.",
        "ユーザー名またはパスワードが正しくありません。",
    ),
    (
        "Too many wrong passwords came from here; wait a minute and try again.",
        "この端末からパスワードの誤入力が続きました。1分ほど待ってからもう一度お試しください。",
    ),
    (
        "Nobody can sign in at the moment; the log of the server says why.",
        "現在サインインできません。原因はサーバーのログに記録されています。",
    ),
];
