use super::*;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Both {
    #[serde(default)]
    mirror: Mirror,
    #[serde(default)]
    scrub: Scrub,
}

fn parse(text: &str) -> Result<Both, String> {
    let both: Both = toml::from_str(text).map_err(|error| error.to_string())?;
    both.mirror.check()?;
    both.scrub.check()?;
    Ok(both)
}

/// Method: the comment signs of the examples are taken away.
#[test]
fn the_examples_in_the_template_are_configuration() {
    let mut text = String::new();
    let mut example = false;
    for line in TEMPLATE.lines() {
        example = line.starts_with("# [[") || (example && line.starts_with("# "));
        let line = if example { &line[2..] } else { line };
        text.push_str(line);
        text.push('\n');
    }
    let mirror = parse(&text).unwrap().mirror;
    assert_eq!((mirror.rules.len(), mirror.periods.len()), (1, 1));
    assert_eq!(mirror.when_for("CT1", "CT", "97"), MirrorWhen::Immediate);
}

#[test]
fn impossible_values_are_refused_with_what_is_wrong() {
    for (text, reason) in [
        ("[mirror]\nwhen = \"weekly\"\n", "weekly"),
        ("[mirror]\nwindow = \"21-24\"\n", "a window is HH:MM-HH:MM"),
        ("[mirror]\nwindows = \"21:00-24:00\"\n", "windows"),
        ("[mirror]\nbytes_per_second = -1\n", "bytes_per_second"),
        (
            "[mirror]\nquiet_minutes = 9223372036854775807\n",
            "quiet_minutes",
        ),
        ("[mirror]\npause_seconds = 86401\n", "at most 86400"),
        (
            "[[mirror.rule]]\nwhen = \"nightly\"\n",
            "number 1: it fits every",
        ),
        ("[[mirror.rule]]\nmodality = \"CT\"\n", "when"),
        (
            "[[mirror.rule]]\nmodality = \"\"\nwhen = \"nightly\"\n",
            "modality",
        ),
        (
            "[[mirror.rule]]\ncalling_ae_title = \"A TITLE THAT IS TOO LONG\"\nwhen = \"nightly\"\n",
            "AE title",
        ),
        (
            "[[mirror.rule]]\nstation = \"X\"\nwhen = \"nightly\"\n",
            "station",
        ),
        ("[[mirror.period]]\nmodality = \"CT\"\n", "it has no end"),
        (
            "[[mirror.period]]\nfrom = \"2020\"\n",
            "from \"2020\" is not a day",
        ),
        (
            "[[mirror.period]]\nto = \"20260231\"\n",
            "to \"20260231\" is not a day",
        ),
        (
            "[[mirror.period]]\nfrom = \"20260102\"\nto = \"20260101\"\n",
            "ends (20260101) before",
        ),
        ("[scrub]\ndays = 5000\n", "at most 3650"),
        (
            "[scrub]\nwindow = \"08:00-08:00\"\n",
            "a window is HH:MM-HH:MM",
        ),
    ] {
        let error = parse(text).err().expect(text);
        assert!(error.contains(reason), "{text}: {error}");
    }
}

#[test]
fn the_first_rule_that_fits_counts() {
    let text = r#"
        [mirror]
        when = "after-study"
        [[mirror.rule]]
        calling_ae_title = "ct1"
        patient_id = "9*"
        when = "before-ack"
        [[mirror.rule]]
        modality = "CT"
        when = "immediate"
        [[mirror.rule]]
        calling_ae_title = "CT1"
        when = "nightly"
    "#;
    let mirror = parse(text).unwrap().mirror;
    for (title, modality, patient, when) in [
        ("CT1 ", "CT", "9", MirrorWhen::BeforeAck),
        (" CT1", "MR", " 9-1 ", MirrorWhen::BeforeAck),
        ("CT1", "ct ", "19", MirrorWhen::Immediate),
        ("CT2", "CT", "9", MirrorWhen::Immediate),
        ("Ct1", "MR", "", MirrorWhen::Nightly),
        ("CT10", "MR", "9", MirrorWhen::AfterStudy),
        ("", "", "", MirrorWhen::AfterStudy),
    ] {
        assert_eq!(
            mirror.when_for(title, modality, patient),
            when,
            "{title} {modality} {patient}"
        );
    }
}

#[test]
fn a_pattern_fits_the_whole_text() {
    for (pattern, text, fits) in [
        ("9*", "9", true),
        ("9*", "97", true),
        ("9*", "19", false),
        ("*9", "989", true),
        ("*9", "98", false),
        ("9?", "9", false),
        ("9?", "9太", true),
        ("?", "", false),
        ("*", "", true),
        ("", "", true),
        ("", "1", false),
        ("**", "1", true),
        ("a*b*c", "a-b-b-c", true),
        ("a*b*c", "a-c-b", false),
        ("*ab*", "aab", true),
        ("a*?b", "ab", false),
        ("4711", "4711", true),
        ("4711", "47110", false),
        ("A1", "a1", false),
    ] {
        assert_eq!(pattern_fits(pattern, text), fits, "{pattern:?} {text:?}");
    }
    // Would not end in a lifetime if every `*` were tried again.
    let hostile = "*a".repeat(31) + "*b";
    assert!(!pattern_fits(&hostile, &"a".repeat(10_000)));
}

#[test]
fn periods_are_by_modality_and_unknown_dates_are_mirrored() {
    let text = r#"
        [[mirror.period]]
        modality = "CT"
        from = "20200101"
        to = "20201231"
        [[mirror.period]]
        modality = "ct"
        from = "20250101"
        [[mirror.period]]
        to = "20191231"
    "#;
    let both = parse(text).unwrap().mirror;
    let one = parse("[[mirror.period]]\nmodality = \"CT\"\nto = \"20200101\"\n");
    let one = one.unwrap().mirror;
    for (mirror, modality, folder, inside) in [
        (&both, "CT", "20191231", false),
        (&both, "CT", "20200101", true),
        (&both, "ct ", "20201231", true),
        (&both, "CT", "20210101", false),
        (&both, "CT", "20991231", true),
        (&both, "MR", "20191231", true),
        (&both, "MR", "20200101", false),
        (&both, "CT", "00000000", true),
        (&both, "CT", "unknown", true),
        (&one, "CT", "20200102", false),
        (&one, "MR", "20200102", true),
        (&Mirror::default(), "CT", "20200102", true),
    ] {
        assert_eq!(
            mirror.in_period(modality, folder),
            inside,
            "{modality} {folder}"
        );
    }
}
