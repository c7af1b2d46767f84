//! A made-up hospital: eight years of studies, each the same whenever it is made again.
//!
//! Of 159 studies nine have three series of 100 instances (in every fourth such group one of the series has 1,000); the
//! other 150 are radiographs and the like with two instances, about a tenth of all. Studies come in the order of their
//! dates. A patient has four on average. Three of four patients have a Japanese name in three component groups.

// Each program that includes it uses a part.
#![allow(dead_code)]

use std::sync::Arc;

use kura::archive::entry;
use kura::index::{Copy, InstanceFacts, SeriesFacts, Stored, StudyFacts};
use kura::volume::layout;
use kura::volume::ledger::WithOnce;

use super::ledgers::{lot, values};

/// Studies in a group.
pub const GROUP: u64 = 159;
/// Instances in four groups, one of which has a long series.
const FOUR_GROUPS: u64 = 4 * (9 * 300 + 150 * 2) + 900;
const LONG_SERIES: u64 = 1_000;
const DAYS: u64 = 2_922;

/// In Latin letters, katakana, kanji.
const SYLLABLES: [[&str; 3]; 30] = [
    ["KA", "カ", "加"],
    ["KI", "キ", "木"],
    ["SA", "サ", "佐"],
    ["TO", "ト", "藤"],
    ["MA", "マ", "真"],
    ["MI", "ミ", "美"],
    ["YA", "ヤ", "山"],
    ["DA", "ダ", "田"],
    ["NA", "ナ", "中"],
    ["MU", "ム", "村"],
    ["HA", "ハ", "原"],
    ["SHI", "シ", "志"],
    ["TA", "タ", "高"],
    ["KO", "コ", "小"],
    ["NO", "ノ", "野"],
    ["RI", "リ", "里"],
    ["O", "オ", "大"],
    ["I", "イ", "井"],
    ["U", "ウ", "宇"],
    ["E", "エ", "江"],
    ["SU", "ス", "須"],
    ["ZU", "ズ", "図"],
    ["FU", "フ", "富"],
    ["JI", "ジ", "地"],
    ["GA", "ガ", "賀"],
    ["WA", "ワ", "和"],
    ["HO", "ホ", "保"],
    ["RO", "ロ", "呂"],
    ["SE", "セ", "瀬"],
    ["TSU", "ツ", "津"],
];
const HEADS: [&str; 24] = [
    "SMI", "JOHN", "ANDER", "WIL", "THOM", "MUE", "SCHNEI", "FISCH", "WEB", "MEY", "WAG", "BECK",
    "SCHUL", "HOFF", "KLEIN", "WOL", "NEU", "SCHWAR", "ZIM", "BRAU", "KRUE", "HART", "LANG",
    "WERN",
];
const TAILS: [&str; 24] = [
    "TH", "SON", "ER", "MANN", "BERG", "LEY", "TON", "FORD", "LER", "DER", "AS", "KE", "FELD",
    "STEIN", "WOOD", "HAM", "FIELD", "MAN", "ING", "SEN", "MORE", "BURN", "WELL", "NER",
];
const GIVEN: [&str; 16] = [
    "ANNA", "JOHN", "MARIA", "PETER", "JULIA", "PAUL", "SARA", "KARL", "LAURA", "TOM", "EMMA",
    "MAX", "LENA", "ERIC", "NINA", "HUGO",
];

/// As `ledgers::uid`, below shorter roots: twenty million of them are to fit on a disk.
fn uid(numbers: &[u64]) -> String {
    let root = match numbers[0] % 4 {
        0 => "1.2.840.113619.2.278",
        1 => "1.2.392.200036.9116.2",
        2 => "1.3.12.2.1107.5.1",
        _ => return format!("2.25.{}", lot(numbers)),
    };
    numbers
        .iter()
        .fold(root.to_owned(), |uid, number| format!("{uid}.{number}"))
}

pub struct Hospital {
    pub studies: u64,
}

impl Hospital {
    /// With about so many instances.
    pub fn new(instances: u64) -> Hospital {
        Hospital {
            studies: (instances * 4 * GROUP / FOUR_GROUPS).max(4 * GROUP),
        }
    }

    /// Studies with three series are the ones with this number in their group.
    fn is_large(study: u64) -> bool {
        let number = study % GROUP;
        number.is_multiple_of(17) && number < 9 * 17
    }

    /// Instances in each of its series.
    pub fn series_of(study: u64) -> &'static [u64] {
        match Hospital::is_large(study) {
            true if study.is_multiple_of(4 * GROUP) => &[LONG_SERIES, 100, 100],
            true => &[100; 3],
            false => &[2],
        }
    }

    /// The study with three series that comes before, or this one.
    pub fn large_before(study: u64) -> u64 {
        study - study % GROUP
    }

    /// The study whose first series is long that comes before, or this one.
    pub fn long_before(study: u64) -> u64 {
        study - study % (4 * GROUP)
    }

    pub fn study_uid(study: u64) -> String {
        uid(&[study])
    }

    /// `series` counts from 1.
    pub fn series_uid(study: u64, series: u64) -> String {
        uid(&[study, series])
    }

    pub fn accession(study: u64) -> String {
        format!("A{study:09}")
    }

    pub fn modality(study: u64) -> &'static str {
        const LARGE: [&str; 10] = ["CT", "CT", "CT", "CT", "CT", "CT", "MR", "MR", "MR", "PT"];
        const SMALL: [&str; 10] = ["CR", "CR", "CR", "CR", "CR", "DX", "DX", "US", "US", "MG"];
        let one = (lot(&[3, study]) >> 32) as usize % 10;
        match Hospital::is_large(study) {
            true => LARGE[one],
            false => SMALL[one],
        }
    }

    fn patient(&self, study: u64) -> u64 {
        (lot(&[5, study]) >> 32) as u64 % (self.studies / 4 + 1)
    }

    pub fn patient_id(&self, study: u64) -> String {
        format!("{:08}", self.patient(study))
    }

    /// Patient's Name, all its component groups.
    pub fn name(&self, study: u64) -> String {
        let mut drawn = lot(&[7, self.patient(study)]) >> 16;
        let mut one_of = |count: usize| {
            let one = drawn % count as u128;
            drawn /= count as u128;
            one as usize
        };
        if one_of(4) == 0 {
            let (head, tail) = (HEADS[one_of(24)], TAILS[one_of(24)]);
            return format!("{head}{tail}^{}", GIVEN[one_of(16)]);
        }
        let syllables: Vec<_> = (0..5).map(|_| SYLLABLES[one_of(30)]).collect();
        let group = |script: usize| {
            let text = |part: &[[&str; 3]]| part.iter().map(|s| s[script]).collect::<String>();
            format!("{}^{}", text(&syllables[..3]), text(&syllables[3..]))
        };
        format!("{}={}={}", group(0), group(2), group(1))
    }

    fn date(&self, study: u64, later: u64) -> String {
        let day = (study * DAYS / self.studies + later) as i64;
        let date = jiff::civil::date(2018, 1, 1).saturating_add(jiff::Span::new().days(day));
        date.strftime("%Y%m%d").to_string()
    }

    /// Study Date.
    pub fn day(&self, study: u64) -> String {
        self.date(study, 0)
    }

    /// Its Study Date and the six days after, as a range.
    pub fn week(&self, study: u64) -> String {
        format!("{}-{}", self.date(study, 0), self.date(study, 6))
    }

    /// Ledger lines of a study, each with those that must come before it.
    pub fn lines(&self, study: u64, volume_id: &str) -> Vec<WithOnce<()>> {
        let mut sequence = study * 2_000;
        let study_facts = Arc::new(self.study(study));
        let mut lines = Vec::new();
        for (series, count) in (1..).zip(Hospital::series_of(study)) {
            let series_facts = Arc::new(self.series(study, series));
            for number in 1..=*count {
                sequence += 1;
                let folder = &series_facts.folder;
                let stored = Stored {
                    study: study_facts.clone(),
                    series: series_facts.clone(),
                    instance: instance([study, series, number], sequence, folder, volume_id),
                };
                let (once, line) = entry::lines(&stored, volume_id, None);
                lines.push((once, line, ()));
            }
        }
        lines
    }

    fn study(&self, n: u64) -> StudyFacts {
        StudyFacts {
            study_instance_uid: Hospital::study_uid(n),
            date_folder: self.day(n),
            values: values(&[
                (0x0008_0020, &self.day(n)),
                (0x0008_0030, &format!("{:02}{:02}15", 8 + n % 12, n % 60)),
                (0x0008_0050, &Hospital::accession(n)),
                (0x0008_0090, "内科^一郎"),
                (0x0008_1030, "胸部 単純"),
                (0x0010_0010, &self.name(n)),
                (0x0010_0020, &self.patient_id(n)),
                (0x0010_0030, "19550403"),
                (0x0010_0040, "M"),
                (0x0010_1010, "070Y"),
                (0x0020_000D, &Hospital::study_uid(n)),
                (0x0020_0010, &format!("{}", n % 100_000)),
            ]),
        }
    }

    fn series(&self, study: u64, series: u64) -> SeriesFacts {
        let uid = Hospital::series_uid(study, series);
        let modality = Hospital::modality(study);
        SeriesFacts {
            study_instance_uid: Hospital::study_uid(study),
            folder: layout::series_folder(
                &self.day(study),
                modality,
                &self.patient_id(study),
                &Hospital::study_uid(study),
                &uid,
            ),
            values: values(&[
                (0x0008_0021, &self.day(study)),
                (0x0008_0031, "103020"),
                (0x0008_0060, modality),
                (0x0008_0070, "TOSHIBA"),
                (0x0008_0080, "市民病院"),
                (0x0008_1010, &format!("{modality}{:02}", study % 4)),
                (0x0008_103E, "Thorax 1.0 mm"),
                (0x0018_0015, "CHEST"),
                (0x0020_000E, &uid),
                (0x0020_0011, &series.to_string()),
            ]),
            series_instance_uid: uid,
        }
    }
}

fn instance(numbers: [u64; 3], sequence: u64, folder: &str, volume_id: &str) -> InstanceFacts {
    let uid = uid(&numbers);
    let crc32 = crc32fast::hash(uid.as_bytes());
    let time = format!("09{:02}{:02}", numbers[2] % 60, crc32 % 60);
    InstanceFacts {
        sequence,
        sop_class_uid: "1.2.840.10008.5.1.4.1.1.2".into(),
        transfer_syntax: "1.2.840.10008.1.2.1".into(),
        values: values(&[(0x0008_0033, &time), (0x0020_0013, &numbers[2].to_string())]),
        received: format!("2026-01-15T01:02:03.{:03}Z", crc32 % 1000),
        source_ae_title: "CT01".into(),
        origin: Default::default(),
        copy: Copy {
            volume_id: volume_id.to_owned(),
            path: format!("{folder}/{}", layout::file_name(&uid)),
            data_offset: 392,
            size_bytes: 525_000 + u64::from(crc32 % 4096),
            crc32,
            file_crc32: !crc32,
            bad: false,
        },
        sop_instance_uid: uid,
    }
}
