//! What the server itself says: states and sentences of `control`'s answers, which are English. A hole stands for anything.

use super::Language;

impl Language {
    /// A word or sentence of the server in this language; as it is where no pattern fits. What stands in a hole may be a
    /// sentence too.
    pub fn sentence(self, english: &str) -> String {
        if self == Language::English {
            return english.to_owned();
        }
        let words = WORDS.iter().find(|(word, _)| *word == english);
        if let Some((_, japanese)) = words {
            return (*japanese).to_owned();
        }
        translated(english, DEPTH_MAX).unwrap_or_else(|| english.to_owned())
    }
}

/// Sentences in holes of sentences in holes …
const DEPTH_MAX: usize = 3;

fn translated(english: &str, depth: usize) -> Option<String> {
    let fitting = |(pattern, japanese): &(&str, &str)| {
        let values = holes(pattern, english)?;
        // A single word is a name; it may be that of a state.
        let inner = |value: &&str| match value.contains(' ') && depth > 0 {
            true => translated(value, depth - 1).unwrap_or_else(|| (*value).to_owned()),
            false => (*value).to_owned(),
        };
        let values: Vec<String> = values.iter().map(inner).collect();
        let values: Vec<&str> = values.iter().map(String::as_str).collect();
        Some(super::fill(japanese, &values))
    };
    SENTENCES.iter().find_map(fitting)
}

/// What stands in the holes of the pattern, if the text is made of it: as little as possible in each, but in the last.
fn holes<'a>(pattern: &str, text: &'a str) -> Option<Vec<&'a str>> {
    let mut parts = pattern.split("{}");
    let mut rest = text.strip_prefix(parts.next()?)?;
    let mut parts = parts.peekable();
    let mut values = Vec::new();
    while let Some(part) = parts.next() {
        let at = match parts.peek() {
            // The end of the pattern is the end of the text.
            None => rest.len() - rest.strip_suffix(part).map(|_| part.len())?,
            Some(_) => rest.find(part)?,
        };
        values.push(&rest[..at]);
        rest = &rest[at + part.len()..];
    }
    rest.is_empty().then_some(values)
}

/// Words of the answers.
const WORDS: &[(&str, &str)] = &[
    ("ok", "正常"),
    ("degraded", "要対応"),
    ("lost", "画像消失"),
    ("unknown", "確認中"),
    ("failed", "異常"),
    ("away", "取り外し中"),
    ("ejected", "取り出し済み"),
    ("retired", "書込終了"),
    ("draining", "移動中"),
    ("adopted", "読取専用"),
    ("replaced", "交換済み"),
    ("done", "完了"),
    ("running", "実行中"),
    ("waiting", "待機中"),
    ("paused", "一時停止"),
    ("blocked", "実行できません"),
    ("planned", "予定"),
    ("off", "オフ"),
    ("live", "正常"),
    ("rebuilding", "再構築中"),
    ("reading", "読み直し中"),
    ("archive", "アーカイブ"),
    ("mirror", "ミラー"),
    ("released", "正常終了"),
    ("stored", "受信"),
    ("moved", "送信(C-MOVE)"),
    ("got", "送信(C-GET)"),
    ("forwarded", "転送"),
    ("pulled", "取り込み"),
    ("committed", "保管確認"),
    ("this server", "このサーバー"),
    ("command line", "コマンドライン"),
];

/// The first that fits is taken.
const SENTENCES: &[(&str, &str)] = &[
    // Who is not let in.
    // What is wrong and what to do.
    (
        "the audit cannot be written: {}; look at the disk of the state folder",
        "監査記録に書き込めません({})。状態フォルダーのディスクを確認してください。",
    ),
    (
        "the certificate of [tls] is over since {}, who looks at it does not come in any more; put another in its place, then: kura reload",
        "[tls] の証明書は {} に期限切れになり、証明書を確認する装置は接続できません。新しい証明書に置き換えて kura reload を実行してください。",
    ),
    (
        "the certificate of [tls] is over on {}; put another in its place before, then: kura reload",
        "[tls] の証明書は {} に期限が切れます。それまでに新しい証明書に置き換えて kura reload を実行してください。",
    ),
    (
        "audit messages have not reached {} since {}: {}; they wait in the audit and go out when it takes them",
        "監査メッセージが {} に {} から届いていません({})。監査記録に残っているので、受信できるようになれば送られます。",
    ),
    (
        "volume {} is not written ({}): kura volume eject {}, look at the disk, mount it again, then: kura volume return {}",
        "ボリューム {} に書き込めません({})。kura volume eject {} で取り出し、ディスクを点検してマウントし直し、kura volume return {} を実行してください。",
    ),
    (
        "volume {} is not written ({}): look at the disk, its cable and its mount; it is written again by itself when it takes a probe; to mount it anew: kura volume eject {} before, kura volume return {} after",
        "ボリューム {} に書き込めません({})。ディスク、ケーブル、マウントを確認してください。書き込めるようになれば自動的に再開します。マウントし直すときは、先に kura volume eject {}、後に kura volume return {} を実行してください。",
    ),
    (
        "volume {} is away ({}): plug it in and mount it at {}, or: kura volume relocate {} NEWPATH",
        "ボリューム {} が見つかりません({})。接続して {} にマウントしてください。場所が変わった場合は kura volume relocate {} 新しいパス を実行してください。",
    ),
    (
        "the intake journal of volume {} takes nothing more ({}); instances are stored without it, slower: look at its disk, then start Kura again",
        "ボリューム {} の受信ジャーナルに書き込めません({})。画像は低速ですが保存されます。ディスクを点検し、Kuraを再起動してください。",
    ),
    (
        "{} instances wait in the intake journal {} and can be written to no volume: see to room, or to the disk of volume {}",
        "受信ジャーナル {1} の画像 {0} 件を書き込めるボリュームがありません。空き容量、またはボリューム {2} のディスクを確認してください。",
    ),
    (
        "nothing can be stored: no archive volume is there, is written and has room: make room or put a disk right, or: kura volume add NAME PATH",
        "画像を保存できません。書き込めて空きのあるアーカイブボリュームがありません。空き容量を確保するかディスクを直すか、kura volume add 名前 パス を実行してください。",
    ),
    (
        "mirror volume {} has no room, so that nothing gets a second copy: make room on it, or: kura volume add NAME PATH --role mirror",
        "ミラーボリューム {} に空きがなく、二つ目のコピーを作れません。空き容量を確保するか、kura volume add 名前 パス --role mirror を実行してください。",
    ),
    (
        "the index cannot be written ({}), and queries end with A700H: see to room on the disk of the state folder {}, and to the disk; receiving goes on, and it is tried again by itself",
        "索引に書き込めません({})。検索は A700H で終わります。状態フォルダー {} のディスクの空き容量とディスクを確認してください。受信は続いており、自動的に再試行します。",
    ),
    (
        "the index is being rebuilt, {} % done: nothing to do, receiving goes on",
        "索引を再構築しています({} % 完了)。対応は不要で、受信は続いています。",
    ),
    (
        "{} ledger lines are damaged: check the disk they are on",
        "台帳の {} 行が壊れています。そのディスクを点検してください。",
    ),
    (
        "{} instances have no good copy left: send them again from the modality; kura status --json names them",
        "画像 {} 件に正常なコピーがありません。装置から再送してください。対象は kura status --json で確認できます。",
    ),
    (
        "mirror volume {} is on the same disk as the archive (or that cannot be told): put it on a disk of its own, or set allow_same_device",
        "ミラーボリューム {} がアーカイブと同じディスクにあります(または判別できません)。別のディスクに移すか、allow_same_device を設定してください。",
    ),
    (
        "{} instances have no second copy, the oldest since {}",
        "画像 {} 件に2つ目のコピーがありません(最も古いものは {} から)",
    ),
    (
        "{}: add a disk for them with: kura volume add NAME PATH --role mirror",
        "{}。kura volume add 名前 パス --role mirror でディスクを追加してください。",
    ),
    (
        "{}: kura mirror status says why, kura mirror run copies now",
        "{}。理由は kura mirror status、すぐにコピーするには kura mirror run を実行してください。",
    ),
    (
        "{} bad copies are not healed yet; those of which another copy is good are by themselves: kura scrub status",
        "不良コピー {} 件がまだ修復されていません。ほかに正常なコピーがあれば自動的に修復されます。詳細: kura scrub status",
    ),
    (
        "the disk of volume {} fails: replace it: kura volume replace {} NEWPATH",
        "ボリューム {} のディスクが故障しています。交換してください: kura volume replace {} 新しいパス",
    ),
    (
        "{} copies are bad on volumes that cannot be written: look at their disks",
        "書き込めないボリュームに不良コピーが {} 件あります。ディスクを点検してください。",
    ),
    (
        "volume {} is being restored, {} of {} instances; it goes on while the server runs",
        "ボリューム {} を復元しています({} / {} 件)。サーバーの稼働中は続行されます。",
    ),
    (
        "{} instances that were on the old disk of volume {} could not be copied: kura report show names them",
        "ボリューム {1} の元のディスクにあった画像 {0} 件をコピーできませんでした。対象は kura report show で確認できます。",
    ),
    (
        "{} instances that were on the old disk of volume {} are not in any copy of its ledger: see to those that kura report show names, then: {}",
        "ボリューム {1} の元のディスクにあった画像 {0} 件が、どの台帳の写しにもありません。kura report show の画像を確認してから実行してください: {2}",
    ),
    (
        "{} instances were lost with the old disk of volume {}: kura report show names them; send them again from the modality, or write them off: {}",
        "ボリューム {1} の元のディスクとともに画像 {0} 件が失われました。対象は kura report show で確認できます。装置から再送するか、次のコマンドで除外してください: {2}",
    ),
    (
        "instances wait in the intake journal in {}, of volume {}, and are not found until they can be written ({}): see to room, or to the disk; it is tried again by itself",
        "ボリューム {1} の受信ジャーナル {0} に画像が待っており、書き込まれるまで検索できません({2})。空き容量またはディスクを確認してください。自動的に再試行されます。",
    ),
    (
        "the intake journal of volume {} in {} is not there, and instances were in it when it was last used: plug in and mount its disk, it is read by itself then; or, if it is lost for good, remove {} and start Kura again",
        "ボリューム {} の受信ジャーナル {} が見つかりません。最後の使用時に画像が入っていました。ディスクを接続してマウントすると自動的に読み込まれます。失われた場合は {} を削除し、Kuraを再起動してください。",
    ),
    (
        "{} holds an intake journal that is not that of volume {} ({}); nothing of it was read and it was left as it is: look whose it is, move it away, and start Kura again",
        "{} にボリューム {} のものではない受信ジャーナルがあります({})。読み込まず、そのまま残してあります。確認のうえ移動し、Kuraを再起動してください。",
    ),
    (
        "records of an intake journal of volume {} were damaged, and instances that were answered may be lost: send again from the modalities what came before that start, then remove {}",
        "ボリューム {} の受信ジャーナルの一部が壊れており、受信済みの画像が失われた可能性があります。起動前に受信した画像を装置から再送し、{} を削除してください。",
    ),
    (
        "volume {} cannot tell where its intake journals were ({}): remove {} and start Kura again; what waits in a journal on another disk is read when that is configured",
        "ボリューム {} の受信ジャーナルの場所がわかりません({})。{} を削除し、Kuraを再起動してください。別のディスクのジャーナルは、設定されたときに読み込まれます。",
    ),
    (
        "what should go to {} has waited for more than a day; see: kura forward list --peer {}",
        "{} への送信が1日以上待機しています。詳細: kura forward list --peer {}",
    ),
    (
        "storage commitment is not reported to {} since {}: {}",
        "{1} から {0} へ保管確認(Storage Commitment)を通知できません: {2}",
    ),
    // Why a volume is not there, or not written.
    ("its disk is not at {}", "{} にディスクがありません"),
    (
        "other files without a label are at {}",
        "{} にラベルのない別のファイルがあります",
    ),
    (
        "another disk is at {}: volume {}",
        "{} に別のディスクがあります(ボリューム {})",
    ),
    ("its disk was unmounted", "ディスクがアンマウントされました"),
    ("ejected, and unplugged", "取り出され、外されました"),
    ("not in the configuration", "設定にありません"),
    ("its disk was given up", "ディスクは交換されました"),
    (
        "its disk was given up; volume {} stands in its place",
        "ディスクは交換され、ボリューム {} に置き換わりました",
    ),
    ("it is being forgotten", "登録を解除しています"),
    ("it does not answer", "応答がありません"),
    (
        "{} instances cannot be moved; the log says why",
        "画像 {} 件を移動できません。理由はログにあります",
    ),
    // Why nothing is copied.
    (
        "there is no mirror volume: kura volume add NAME PATH --role mirror",
        "ミラーボリュームがありません: kura volume add 名前 パス --role mirror",
    ),
    (
        "there is no {} volume that could take it",
        "コピーできる {} ボリュームがありません",
    ),
    ("the index is being read in", "索引を読み込んでいます"),
    ("kura mirror resume goes on", "再開: kura mirror resume"),
    ("volume {} is full", "ボリューム {} は満杯です"),
    ("volume {} is away", "ボリューム {} は取り外し中です"),
    ("volume {} is not written", "ボリューム {} に書き込めません"),
    (
        "the other copy of {} instances is on a volume that is away: {}",
        "画像 {} 件のもう1つのコピーは、取り外し中のボリュームにあります: {}",
    ),
    // What was done.
    (
        "{} ({} instances) will be sent to {}: kura forward list",
        "画像 {1} 件を {2} へ送信します。",
    ),
    (
        "Nothing is sent to {} by itself until: kura forward resume {}. What is being sent to it at this moment is sent to its end.",
        "{} への自動転送を一時停止しました。送信中の画像は最後まで送られます。",
    ),
    ("What waits for {} is sent.", "{} への送信を再開しました。"),
    ("One study is tried again now.", "1 件の検査を再送します。"),
    (
        "{} studies are tried again now.",
        "{} 件の検査を再送します。",
    ),
    (
        "Nothing waits and nothing failed there.",
        "送信待ちも失敗もありません。",
    ),
    (
        "Study {} counts as sent to {}; instances that come from now on are sent.",
        "検査 {} は {} へ送信済みとしました。今後届く画像は送信されます。",
    ),
    (
        "Study {} is sent again, all of it, to {}.",
        "検査 {} をすべて {} へ再送します。",
    ),
    ("marked as sent by hand", "手動で送信済みにしました"),
    (
        "the peer cannot be reached: {}",
        "接続先に接続できません: {}",
    ),
    (
        "there is no study {}; nothing was sent",
        "検査 {} はありません。送信していません。",
    ),
    // Why the page refuses something.
    (
        "you may look and change nothing; nothing was changed",
        "閲覧のみ許可されています。変更されていません。",
    ),
    (
        "ask somebody who may change this",
        "変更できる人に依頼してください。",
    ),
    (
        "this server does not know the name that it was asked by; nothing was done",
        "このサーバーに登録されていない名前でアクセスされました。何も行われていません。",
    ),
    (
        "use its address, or write the name into [admin] names",
        "IPアドレスでアクセスするか、[admin] names に名前を追加してください。",
    ),
    (
        "the request comes from a page of another server; nothing was done",
        "別のサーバーのページからの要求です。何も行われていません。",
    ),
    (
        "open the administrator's page itself, and do it there",
        "管理ページを開いて操作してください。",
    ),
    (
        "users and tokens cannot be read; nobody is let in",
        "利用者の情報を読み込めないため、誰もサインインできません。",
    ),
    (
        "the log of the server says why",
        "理由はサーバーのログにあります。",
    ),
    // Why associations failed.
    (
        "refused: it calls {}, and this server is {}",
        "拒否しました。相手の呼び先は {} ですが、このサーバーは {} です",
    ),
    (
        "set the AE title of this archive to {} in the other system, or here: [access] called = \"any\"",
        "相手側でこのアーカイブのAEタイトルを {} に設定するか、こちらで [access] called = \"any\" にしてください",
    ),
    (
        "refused: nobody is known who calls so from {} ({})",
        "拒否しました。{} からの呼び出し元に心当たりがありません({})",
    ),
    (
        "if it is to come in, add [[access.rule]] with its address and what it may do to kura.toml, or make it a peer: kura peer add AE@HOST:PORT",
        "許可する場合は、アドレスと許可する内容を [[access.rule]] として kura.toml に追加するか、接続先として登録してください: kura peer add AE@HOST:PORT",
    ),
    ("refused by {}", "{} により拒否しました"),
    (
        "if it is to come in, change that rule in kura.toml, then: kura reload; kura access check says what fits a caller",
        "許可する場合は kura.toml のその規則を変更し、kura reload を実行してください。どの規則が当てはまるかは kura access check で分かります",
    ),
    (
        "refused: it gave no user name and password, and [access] require_user = true",
        "拒否しました。ユーザー名とパスワードが送られていません([access] require_user = true)",
    ),
    (
        "enter a user name and password in the other system (kura access user add makes them), or take require_user out of kura.toml",
        "相手側にユーザー名とパスワードを設定するか(kura access user add で作成)、kura.toml から require_user を外してください",
    ),
    (
        "refused: it wants to be told that {} is accepted, which cannot be verified here",
        "拒否しました。{} の確認を求めていますが、ここでは検証できません",
    ),
    (
        "let it send a user name and password (kura access user add makes them), or ask for no answer",
        "ユーザー名とパスワードを送るようにするか(kura access user add で作成)、応答を求めないようにしてください",
    ),
    (
        "refused: the user name and password that it gave do not fit",
        "拒否しました。送られたユーザー名とパスワードが一致しません",
    ),
    (
        "enter them anew in the other system, or set them here: kura access user add NAME",
        "相手側で入力し直すか、こちらで設定してください: kura access user add NAME",
    ),
    (
        "refused for {} s: too many wrong passwords came from its address",
        "{} 秒間拒否します。このアドレスから誤ったパスワードが続きました",
    ),
    (
        "enter user name and password anew in the other system, or set them here: kura access user add NAME",
        "相手側でユーザー名とパスワードを入力し直すか、こちらで設定してください: kura access user add NAME",
    ),
    (
        "refused: users and their passwords cannot be read here at the moment",
        "拒否しました。現在ユーザーとパスワードの情報を読み込めません",
    ),
    (
        "the log of the server says why; look at the disk of the state folder",
        "理由はサーバーのログにあります。状態フォルダーのディスクを確認してください",
    ),
    (
        "it wanted {}, which {} does not allow it",
        "{} を要求しましたが、{} では許可されていません",
    ),
    (
        "nothing that it wanted is allowed to it by {}: {}",
        "要求はどれも {} で許可されていません: {}",
    ),
    (
        "if it may, add that to allow of the rule in kura.toml, or an [[access.rule]] before it, then: kura reload",
        "許可する場合は、kura.toml のその規則の allow に追加するか、その前に [[access.rule]] を置き、kura reload を実行してください",
    ),
    (
        "refused for now: {} associations are open at most, {} from one address",
        "一時的に拒否しました。同時接続は全体で {}、1つのアドレスから {} までです",
    ),
    (
        "most systems try again by themselves; if it goes on, see which associations it leaves open, or raise [limits]",
        "多くの装置は自動で再試行します。続く場合は、開いたままの接続を調べるか [limits] を増やしてください",
    ),
    (
        "refused for now: too few files may be open here for another association",
        "一時的に拒否しました。このサーバーで開けるファイルの数が足りません",
    ),
    (
        "kura doctor says how many may be open, and how to allow more",
        "開けるファイルの数と増やし方は kura doctor で分かります",
    ),
    (
        "given up: it sent a command of more than {} bytes",
        "打ち切りました。{} バイトより長いコマンドが送られてきました",
    ),
    (
        "it does not speak DICOM as everybody does (PS3.8): ask its manufacturer",
        "DICOM規格(PS3.8)どおりに通信していません。メーカーに問い合わせてください",
    ),
    (
        "it began with TLS; this port speaks DICOM without it",
        "TLSで接続してきましたが、このポートはTLSなしのDICOMです",
    ),
    (
        "switch TLS (\"secure DICOM\") off for this archive in the other system, or have a port for it here: [tls] port",
        "相手側でこのアーカイブへのTLS(暗号化DICOM)を無効にするか、ここでTLS用のポートを設定してください([tls] port)",
    ),
    (
        "it sent a web request to the DICOM port",
        "DICOMポートにWebの要求を送ってきました",
    ),
    (
        "the administrator's page has another port ({}); a monitoring program asks /healthz there",
        "管理ページは別のポート({})です。監視プログラムはそちらの /healthz を使ってください",
    ),
    (
        "its request for an association cannot be read: {}",
        "接続要求を読み取れません: {}",
    ),
    ("ask its manufacturer", "メーカーに問い合わせてください"),
    (
        "what it sent is not DICOM",
        "送られてきたものはDICOMではありません",
    ),
    (
        "find out what runs at that address, and take this port out of its settings",
        "そのアドレスで動いているものを調べ、設定からこのポートを外してください",
    ),
    (
        "it connected and said nothing for {} s",
        "接続後 {} 秒間、何も送ってきませんでした",
    ),
    (
        "is it a DICOM system? its log may say what it waits for",
        "DICOM装置でしょうか。相手のログに理由があるかもしれません",
    ),
    (
        "its request for an association did not come to an end within {} s",
        "接続要求が {} 秒以内に終わりませんでした",
    ),
    (
        "look at the network between the two",
        "両者の間のネットワークを調べてください",
    ),
    (
        "look at the network between the two, and at the log of the other system",
        "両者の間のネットワークと相手のログを調べてください",
    ),
    (
        "look at the network between the two, and at the log of the other system; {}",
        "両者の間のネットワークと相手のログを調べてください。{}",
    ),
    (
        "it went away before there was an association: {}",
        "接続が成立する前に切れました: {}",
    ),
    (
        "what was not answered is not stored; see whether the other system sent it again",
        "応答していない画像は保存されていません。相手が再送したか確認してください",
    ),
    (
        "it went away in the middle: the connection was closed without a release",
        "途中で切れました(解放の手順なしに閉じられました)",
    ),
    (
        "it broke off in the middle: {}",
        "相手が途中で中断しました: {}",
    ),
    ("its own log says why; {}", "理由は相手のログにあります。{}"),
    (
        "given up: it neither sent nor took anything for {} s while {}",
        "打ち切りました。{} 秒間、送受信がありませんでした({})",
    ),
    (
        "was it switched off, or the network cut? {}",
        "電源が切れたか、ネットワークが切れていませんか。{}",
    ),
    (
        "given up: it broke the protocol ({})",
        "打ち切りました。通信規約に違反しています({})",
    ),
    (
        "ask its manufacturer; kura serve --trace-association writes down what it says",
        "メーカーに問い合わせてください。kura serve --trace-association で通信を記録できます",
    ),
    (
        "let it offer Explicit or Implicit VR Little Endian for that",
        "その種類にExplicitまたはImplicit VR Little Endianを提示するよう設定してください",
    ),
    (
        "this server stores, finds and hands out images; what else it wants (a worklist, MPPS, printing) is another server's",
        "このサーバーは画像の保存・検索・送信を行います。ワークリスト・MPPS・印刷などは別のサーバーの役目です",
    ),
    (
        "nothing that it wanted is offered here: {}",
        "相手の求めるサービスはここにはありません: {}",
    ),
    // The page's own.
    (
        "more than {} characters stand in a field; no value is that long",
        "{} 文字を超える入力があります。",
    ),
    (
        "{} is not a date; expected YYYY-MM-DD",
        "{} は日付ではありません(例: 2026-01-15)",
    ),
    (
        "the search was ended after 10 seconds; there may be more: say more of what you look for",
        "検索を10秒で打ち切りました。ほかにもあるかもしれません。条件を絞ってください。",
    ),
    (
        "the index is being rebuilt, {} % done; ask again",
        "索引を再構築しています({} % 完了)。後でもう一度検索してください。",
    ),
    (
        "this ended by a fault in this program; please report it",
        "プログラムの不具合により中断しました。ご報告ください。",
    ),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;

    #[test]
    fn holes_are_found_by_what_stands_between_them() {
        assert_eq!(holes("ok", "ok"), Some(vec![]));
        assert_eq!(holes("ok", "okay"), None);
        assert_eq!(holes("{} of {}", "1 of 2"), Some(vec!["1", "2"]));
        assert_eq!(
            holes("volume {} ({})", "volume A (b))"),
            Some(vec!["A", "b)"])
        );
        assert_eq!(holes("a {}b", "a b"), Some(vec![""]));
        assert_eq!(holes("a {}b", "a "), None);
        assert_eq!(holes("{}b", "日本"), None);
    }

    #[test]
    fn sentences_in_sentences_are_translated_and_names_are_not() {
        let said = |text| Language::Japanese.sentence(text);
        let away = "volume ok is away (its disk is not at /srv/ok): plug it in and mount it at /srv/ok, or: kura volume relocate ok NEWPATH";
        let japanese = said(away);
        assert!(
            japanese.starts_with("ボリューム ok が見つかりません(/srv/ok にディスクがありません)"),
            "{japanese}"
        );
        assert_eq!(said("something new"), "something new");
        assert_eq!(said("degraded"), "要対応");
        let hostile = "volume ".repeat(10_000);
        assert_eq!(said(&hostile), hostile);
    }

    /// Every string literal of a file, its `{…}` without what is in them.
    fn literals(text: &str) -> Vec<String> {
        let mut found = Vec::new();
        for line in text
            .lines()
            .filter(|line| !line.trim_start().starts_with("//"))
        {
            let mut rest = line;
            while let Some((_, behind)) = rest.split_once('"') {
                let (mut literal, mut inside, mut end) = (String::new(), false, behind.len());
                let mut letters = behind.char_indices();
                while let Some((at, letter)) = letters.next() {
                    match letter {
                        '"' => {
                            end = at + 1;
                            break;
                        }
                        '\\' => literal.extend(letters.next().map(|(_, letter)| letter)),
                        '{' => {
                            literal.push_str("{}");
                            inside = true;
                        }
                        '}' => inside = false,
                        letter if !inside => literal.push(letter),
                        _ => {}
                    }
                }
                found.push(literal);
                rest = &behind[end..];
            }
        }
        found
    }

    fn source(file: &Path) -> String {
        let text = std::fs::read_to_string(file).unwrap();
        let text = text.split("#[cfg(test)]").next().unwrap();
        text.to_owned()
    }

    /// Method: each pattern must still be a text in the source.
    #[test]
    fn a_sentence_that_was_changed_is_noticed() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let mut said = BTreeSet::new();
        for entry in walkdir::WalkDir::new(root) {
            let entry = entry.unwrap();
            let path = entry.path();
            let is_table = path.components().any(|part| part.as_os_str() == "words");
            if path.extension().is_some_and(|end| end == "rs") && !is_table {
                said.extend(literals(&source(path)));
            }
        }
        let patterns = SENTENCES.iter().map(|(pattern, _)| *pattern);
        let gone: Vec<&str> = patterns
            .filter(|pattern| !said.contains(*pattern))
            .collect();
        assert!(gone.is_empty(), "nothing says this any more: {gone:#?}");
    }

    /// Method: what the files say that make the actions of the status must have a pattern, from `actions.push` to the end of
    /// its function.
    #[test]
    fn every_action_of_the_status_has_a_translation() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let mut missing = BTreeSet::new();
        for file in [
            "archive/status.rs",
            "archive/copies_status.rs",
            "archive/checked_status.rs",
            "archive/replace_status.rs",
            "archive/journals.rs",
        ] {
            let text = source(&root.join(file));
            for part in text.split("actions.push(").skip(1) {
                let literals = literals(part.split("\n    }\n").next().unwrap());
                let is_sentence = |said: &&String| {
                    let says_what_to_do = said.contains(": ") && said.split(' ').count() > 5;
                    says_what_to_do && !said.starts_with("kura ")
                };
                let known = |said: &String| SENTENCES.iter().any(|(known, _)| known == said);
                missing.extend(
                    literals
                        .iter()
                        .filter(is_sentence)
                        .filter(|said| !known(said))
                        .cloned(),
                );
            }
        }
        assert!(missing.is_empty(), "without Japanese: {missing:#?}");
    }

    #[test]
    fn a_translation_uses_holes_that_its_sentence_has() {
        for (english, japanese) in SENTENCES {
            let holes = english.matches("{}").count();
            let in_order = japanese.matches("{}").count();
            let numbered = |at: &usize| japanese.contains(&format!("{{{at}}}"));
            let highest = (0..9).filter(numbered).max().map_or(0, |at| at + 1);
            assert!(in_order.max(highest) <= holes, "{english}");
            assert!(in_order == 0 || highest == 0, "{english}");
            let same = SENTENCES.iter().filter(|(other, _)| other == english);
            assert_eq!(same.count(), 1, "{english}");
        }
    }
}
