//! What each verb changes on disk: the last line of its help. One table, so that a verb without an entry is seen.

use clap::Command;

const NOTHING: &str = "nothing.";
const JOURNAL_ALONE: &str = "nothing but lines of the journal of transfers.";
const CONFIGURATION: &str = "kura.toml, with its comments kept.";
const ACCOUNTS: &str = "admin/accounts.json in the state folder, and a line of the audit.";
const OUTBOX: &str = "the outbox in the state folder; no image.";

/// Verb, with the verb below it; what its help says.
const TABLE: &[(&str, &str)] = &[
    (
        "serve",
        "it makes the state folder and labels empty folders of volumes at its first start; from then on images, ledgers, \
         index and journals, as storage-layout.md says.",
    ),
    ("status", NOTHING),
    ("find", NOTHING),
    (
        "doctor",
        "nothing that stays; to measure a disk it writes small files and removes them.",
    ),
    ("stats", NOTHING),
    ("journal", NOTHING),
    (
        "pull",
        "what comes is stored as from a modality; what was asked for, and a report, in the state folder.",
    ),
    ("pull status", NOTHING),
    (
        "pull cancel",
        "the note of what was asked for, in the state folder; no image.",
    ),
    ("echo", NOTHING),
    ("send", JOURNAL_ALONE),
    ("forward", NOTHING),
    ("forward list", NOTHING),
    ("forward show", NOTHING),
    ("forward retry", OUTBOX),
    ("forward mark-sent", OUTBOX),
    ("forward unmark", OUTBOX),
    ("forward pause", OUTBOX),
    ("forward resume", OUTBOX),
    ("forward acknowledge", OUTBOX),
    ("forward rules", NOTHING),
    ("forward add-rule", CONFIGURATION),
    ("forward remove-rule", CONFIGURATION),
    ("peer", NOTHING),
    ("peer list", NOTHING),
    ("peer add", CONFIGURATION),
    ("peer remove", CONFIGURATION),
    ("admin", NOTHING),
    ("admin list", NOTHING),
    ("admin password", ACCOUNTS),
    ("admin remove", ACCOUNTS),
    ("admin token", NOTHING),
    ("admin token add", ACCOUNTS),
    ("admin token list", NOTHING),
    ("admin token remove", ACCOUNTS),
    (
        "admin certificate",
        "certificate.pem and key.pem in admin/ (with --dicom: tls/) of the state folder, and a line of the audit.",
    ),
    ("access", NOTHING),
    ("access list", NOTHING),
    ("access check", NOTHING),
    ("access user", NOTHING),
    ("access user add", ACCOUNTS),
    ("access user list", NOTHING),
    ("access user remove", ACCOUNTS),
    ("audit", NOTHING),
    ("audit list", "A line of the audit: that it was read."),
    ("audit verify", NOTHING),
    (
        "audit export",
        "The file that is named, and a line of the audit: that it was read.",
    ),
    ("dump", NOTHING),
    ("index", NOTHING),
    (
        "index rebuild",
        "the index is made anew in the state folder; no image, no ledger.",
    ),
    (
        "index fill",
        "lines in the ledgers of the volumes, and the index; no image.",
    ),
    ("volume", NOTHING),
    ("volume list", NOTHING),
    ("volume check", NOTHING),
    (
        "volume add",
        "label and folders of Kura on the new volume, and kura.toml.",
    ),
    (
        "volume retire",
        "a note in the state folder and on the volumes; no image.",
    ),
    (
        "volume drain",
        "each image of the volume is copied to another, read again there, noted in both ledgers and then removed here.",
    ),
    (
        "volume eject",
        "what waits is written, and a note in the state folder and on the volumes; no image.",
    ),
    (
        "volume return",
        "a note in the state folder and on the volumes; no image.",
    ),
    ("volume rename", "the volume's label, and kura.toml."),
    (
        "volume relocate",
        "kura.toml, and a note in the state folder.",
    ),
    (
        "volume replace",
        "the new volume is labelled and filled from the other copies; kura.toml; the dead disk is not written.",
    ),
    (
        "volume forget",
        "kura.toml and the index; nothing on the volume itself.",
    ),
    ("mirror", NOTHING),
    ("mirror status", NOTHING),
    (
        "mirror run",
        "second copies are written, and noted in the ledgers of their volumes.",
    ),
    ("mirror pause", "a note in the state folder."),
    ("mirror resume", "a note in the state folder."),
    ("retention", NOTHING),
    ("retention show", NOTHING),
    (
        "retention run",
        "images that a rule takes are removed from the volumes that received them, after two copies elsewhere were read \
         again; a report in the state folder.",
    ),
    ("report", NOTHING),
    ("report list", NOTHING),
    ("report show", NOTHING),
    ("scrub", NOTHING),
    ("scrub status", NOTHING),
    (
        "scrub run",
        "how far it is, in the state folder; a bad file is noted in its ledger, set aside and copied anew from a good one.",
    ),
    (
        "adopt",
        "label and ledger of the new volume, in the folder or in the state folder, and kura.toml; the files that were there \
         stay as they are. With --copy the images are stored in the archive instead.",
    ),
    (
        "equalize",
        "lines in ledgers, and the index, so that they say what the disks hold; what nobody knows is listed or set aside, \
         never deleted.",
    ),
    (
        "drill",
        "nothing that stays; an index to compare with is made in the state folder and removed.",
    ),
    (
        "amend",
        "amended images are written as new files and noted in the ledgers; the old ones are kept aside. With --dry-run nothing.",
    ),
    ("changes", NOTHING),
    ("changes list", NOTHING),
    ("changes show", NOTHING),
    (
        "remove",
        "a line in the ledgers; the files move to the trash of their volumes and are deleted when its days are over. With \
         --dry-run nothing.",
    ),
    ("trash", NOTHING),
    ("trash list", NOTHING),
    (
        "trash restore",
        "a line in the ledgers; the files move back to their places.",
    ),
    (
        "trash empty",
        "the files are deleted, on every volume; that cannot be taken back.",
    ),
    ("protect", "a line in the ledgers; no image."),
    ("protect list", NOTHING),
    ("conflicts", NOTHING),
    ("conflicts show", NOTHING),
    (
        "conflicts prefer",
        "lines in the ledgers, and amended images where one person is made of several; nothing is deleted.",
    ),
    (
        "conflicts discard",
        "a line in the ledgers; what is discarded is kept aside, and deleted when its days are over.",
    ),
    (
        "conflicts undo",
        "a line in the ledgers; nothing is deleted.",
    ),
    ("notices", NOTHING),
    ("notices test", "when it was sent, in the state folder."),
    (
        "backup",
        "the one file that it writes; one that is there is never replaced.",
    ),
    (
        "restore",
        "kura.toml and files of the state folder; what they replace is kept in before-restore/ of the state folder. No volume. \
         With --dry-run nothing.",
    ),
    (
        "reload",
        "nothing; what the configuration says takes effect, as if the server had been started with it.",
    ),
    (
        "init",
        "the new configuration file; one that is there is never replaced.",
    ),
    ("completions", NOTHING),
    ("man", "one file for each verb in the folder."),
];

const HEADING: &str = "Changes on disk: ";

/// Every verb with its line, the ones below it too.
pub fn said(command: Command) -> Command {
    said_below(command, "")
}

fn said_below(command: Command, above: &str) -> Command {
    let names: Vec<String> = command
        .get_subcommands()
        .map(|verb| verb.get_name().to_owned())
        .collect();
    let mut command = command;
    for name in names {
        let path = match above {
            "" => name.clone(),
            _ => format!("{above} {name}"),
        };
        command = command.mut_subcommand(&name, |verb| {
            let verb = match TABLE.iter().find(|(known, _)| *known == path) {
                Some((_, text)) => verb.after_help(format!("{HEADING}{text}")),
                None => verb,
            };
            said_below(verb, &path)
        });
    }
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    fn each(command: &Command, above: &str, look: &mut dyn FnMut(&str, &Command)) {
        for verb in command.get_subcommands().filter(|verb| !verb.is_hide_set()) {
            let path = format!("{above} {}", verb.get_name());
            look(path.trim(), verb);
            each(verb, &path, look);
        }
    }

    #[test]
    fn every_verb_says_what_it_changes_on_disk() {
        let command = said(crate::cli::plain_command());
        let (mut silent, mut verbs) = (Vec::new(), Vec::new());
        each(&command, "", &mut |path, verb| {
            verbs.push(path.to_owned());
            let said = verb.get_after_help().map(|text| text.to_string());
            if !said.is_some_and(|said| said.starts_with(HEADING)) {
                silent.push(path.to_owned());
            }
        });
        assert!(
            silent.is_empty(),
            "without a line in {}: {silent:?}",
            file!()
        );
        let gone: Vec<&&str> = TABLE
            .iter()
            .map(|(verb, _)| verb)
            .filter(|verb| !verbs.iter().any(|other| other == *verb))
            .collect();
        assert!(gone.is_empty(), "no verbs: {gone:?}");
    }
}
