//! A small archive with odd values, and identifiers that ask for them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use dicom_core::VR;
use kura::dicom::{Level, Tag, level_of};
use kura::index::{Change, Copy, InstanceFacts, Key, Query, SeriesFacts, Stored, StudyFacts};

use super::matcher::{self, Beyond, Values, is_universal, value_matches, vr_of};

pub const SOP_CLASS: u32 = 0x0008_0016;
pub const SOP: u32 = 0x0008_0018;
pub const STUDY_DATE: u32 = 0x0008_0020;
pub const MODALITY: u32 = 0x0008_0060;
pub const MODALITIES: u32 = 0x0008_0061;
pub const SOP_CLASSES: u32 = 0x0008_0062;
pub const NAME: u32 = 0x0010_0010;
pub const ID: u32 = 0x0010_0020;
pub const ISSUER: u32 = 0x0010_0021;
pub const BORN: u32 = 0x0010_0030;
pub const STUDY: u32 = 0x0020_000D;
pub const SERIES: u32 = 0x0020_000E;
pub const IMAGE_COMMENTS: u32 = 0x0020_4000;
pub const STUDY_COMMENTS: u32 = 0x0032_4000;
pub const PATIENT_STUDIES: u32 = 0x0020_1200;
pub const PATIENT_SERIES: u32 = 0x0020_1202;
pub const PATIENT_INSTANCES: u32 = 0x0020_1204;
const REQUEST: u32 = 0x0040_0275;
const STEP: u32 = 0x0040_0009;
const PROCEDURE: u32 = 0x0040_1001;

/// Dates and the times that belong to them.
const PAIRS: &[(u32, u32)] = &[
    (STUDY_DATE, 0x0008_0030),
    (BORN, 0x0010_0032),
    (0x0008_0021, 0x0008_0031),
    (0x0040_0244, 0x0040_0245),
    (0x0008_0023, 0x0008_0033),
    (0x0008_0022, 0x0008_0032),
    (0x0008_0012, 0x0008_0013),
];

/// SplitMix64: the same archives and identifiers from the same seed, everywhere.
pub struct Dice(pub u64);

impl Dice {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    pub fn one_in(&mut self, count: usize) -> bool {
        self.below(count) == 0
    }

    pub fn pick<T: Clone>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())].clone()
    }
}

const NAMES: &[&str] = &[
    "SMITH^John",
    "Smith^John^^Dr",
    "Smith ^ Jane",
    "smithson^Mary Ann",
    "Müller^Jörg",
    "MUELLER^Jorg",
    "Groß^Anna",
    "GROSS^ANNA",
    "O'Hara-Lee^Anna",
    "Yamada^Tarou=山田^太郎=やまだ^たろう",
    "ﾔﾏﾀﾞ^ﾀﾛｳ=山田^太郎=ヤマダ^タロウ",
    "=山田^花子",
    "Hong^Gildong=洪^吉洞=홍^길동",
    "Οδυσσεύς^Νίκος",
    "Люксембург",
    "^John",
    "^^",
    "Doe^Jane\\Roe^Richard",
    "",
];
const TEXTS: &[&str] = &[
    "100", "0100", " 100 ", "A1", "a1", "Ａ1", "A1\\B2", "HEAD", "Head CT", "CHEST", "café",
    "CAFE", "胸部", "ﾑﾈ", "x*y", "a?c", "", " ", "[1]", "A_B", "Größe",
];
const DATES: &[&str] = &[
    "20260110",
    "20260111",
    "20260112",
    "20251231",
    "2026.01.11",
    "2026-01-12",
    "202601",
    "2026",
    "00000000",
    "99999999",
    "20261399",
    "today",
    "",
    "20260110\\20260112",
];
const TIMES: &[&str] = &[
    "08",
    "0830",
    "083000",
    "083000.5",
    "120000",
    "235959.999999",
    "000000",
    "10:30:00",
    "noon",
    "",
    "24",
];
const NUMBERS: &[&str] = &["1", "01", "+1", "2", "10", "1.0", "-3", "x", "", "1\\2"];
const MODALITIES_OF_ALL: &[&str] = &["CT", "MR", "CR", "US", "SR", "ct", ""];
const CLASSES: &[&str] = &[
    "1.2.840.10008.5.1.4.1.1.2",
    "1.2.840.10008.5.1.4.1.1.4",
    "1.2.840.10008.5.1.4.1.1.88.11",
];
const AGES: &[&str] = &["042Y", "003M", ""];

/// (tag, VR of what is put there)
const PATIENT_AND_STUDY: &[(u32, VR)] = &[
    (NAME, VR::PN),
    (ID, VR::LO),
    (ISSUER, VR::LO),
    (BORN, VR::DA),
    (0x0010_0032, VR::TM),
    (0x0010_0040, VR::CS),
    (STUDY_DATE, VR::DA),
    (0x0008_0030, VR::TM),
    (0x0008_0050, VR::SH),
    (0x0020_0010, VR::SH),
    (0x0008_1030, VR::LO),
    (0x0008_0090, VR::PN),
    (0x0010_1010, VR::AS),
    (STUDY_COMMENTS, VR::LT),
];
const OF_SERIES: &[(u32, VR)] = &[
    (0x0020_0011, VR::IS),
    (0x0008_103E, VR::LO),
    (0x0008_0021, VR::DA),
    (0x0008_0031, VR::TM),
    (0x0040_0244, VR::DA),
    (0x0040_0245, VR::TM),
    (0x0008_1050, VR::PN),
    (0x0008_0080, VR::LO),
    (0x0018_0015, VR::CS),
];
const OF_INSTANCES: &[(u32, VR)] = &[
    (0x0020_0013, VR::IS),
    (0x0008_0023, VR::DA),
    (0x0008_0033, VR::TM),
    (0x0008_0022, VR::DA),
    (0x0008_0032, VR::TM),
    (0x0008_0012, VR::DA),
    (0x0008_0013, VR::TM),
    (IMAGE_COMMENTS, VR::LT),
    (0x0028_0010, VR::US),
    (0x0008_0008, VR::CS),
];

fn value_of(dice: &mut Dice, vr: VR) -> String {
    let of = match vr {
        VR::PN => NAMES,
        VR::DA => DATES,
        VR::TM => TIMES,
        VR::IS | VR::US => NUMBERS,
        VR::AS => AGES,
        _ => TEXTS,
    };
    // Most as they should be, else nothing agrees with anything.
    match dice.one_in(3) {
        true => dice.pick(of).to_owned(),
        false => dice.pick(&of[..of.len().min(4)]).to_owned(),
    }
}

fn values_of(dice: &mut Dice, of: &[(u32, VR)]) -> Values {
    let mut values = Values::new();
    for (tag, vr) in of {
        if !dice.one_in(5) {
            values.insert(*tag, value_of(dice, *vr));
        }
    }
    values
}

fn items(dice: &mut Dice) -> String {
    let item = |dice: &mut Dice| {
        let (step, procedure) = (dice.pick(TEXTS), dice.pick(TEXTS));
        serde_json::json!({"00400009": step, "00401001": procedure})
    };
    let items: Vec<serde_json::Value> = (0..1 + dice.below(3)).map(|_| item(dice)).collect();
    serde_json::to_string(&items).unwrap()
}

fn has_sequences() -> bool {
    level_of(Tag(0x0040, 0x0275)).is_some()
}

/// One instance with what is said at every level above.
pub struct Instance {
    pub study: String,
    pub series: String,
    pub sop: String,
    pub sop_class: String,
    /// Of all levels, without empty ones. Those of the patient are of whom it says itself.
    pub values: Values,
}

impl Instance {
    /// Whose part of the study it is in.
    pub fn part(&self) -> Part {
        (self.study.clone(), patient_text(&self.values))
    }
}

/// A study as one of its patients has it: its UID, and what it says of the patient.
pub type Part = (String, String);

pub fn patient_text(values: &Values) -> String {
    let text = |tag: u32| values.get(&tag).map_or("", String::as_str);
    format!("{}|{}|{}", text(ID), text(NAME), text(BORN))
}

/// Of the patient: nobody else's.
fn is_of_patient(tag: u32) -> bool {
    tag >> 16 == 0x0010 || level_of(Tag((tag >> 16) as u16, tag as u16)) == Some(Level::Patient)
}

/// Does it matter whose a study is? Then one of several patients is several.
pub fn is_by_patient(query: &Query) -> bool {
    let asks = |key: &Key| is_of_patient(key.tag) && !is_universal(vr_of(key), key, &Beyond::KURA);
    matches!(query.level, Level::Patient | Level::Instance) || query.keys.iter().any(asks)
}

pub struct Archive {
    pub instances: Vec<Instance>,
    pub statements: Vec<Change>,
}

impl Archive {
    pub fn new(dice: &mut Dice) -> Archive {
        let mut archive = Archive {
            instances: Vec::new(),
            statements: Vec::new(),
        };
        for study in 0..3 + dice.below(10) {
            let study_uid = format!("1.2.{study}");
            let of_study = values_of(dice, PATIENT_AND_STUDY);
            // One study in four has images of another patient, or of two.
            let mut others = Vec::new();
            if dice.one_in(4) {
                others.push(values_of(dice, &PATIENT_AND_STUDY[..2]));
                others.push(Values::from([
                    (ID, "900".to_owned()),
                    (NAME, value_of(dice, VR::PN)),
                    (BORN, value_of(dice, VR::DA)),
                ]));
            }
            for series in 0..1 + dice.below(3) {
                // One series in ten claims a UID that another study has too.
                let series_uid = match dice.one_in(10) {
                    true => format!("1.2.3.{series}"),
                    false => format!("{study_uid}.{series}"),
                };
                let mut of_series = values_of(dice, OF_SERIES);
                of_series.insert(MODALITY, dice.pick(MODALITIES_OF_ALL).to_owned());
                if has_sequences() && dice.one_in(2) {
                    of_series.insert(REQUEST, items(dice));
                }
                for instance in 0..1 + dice.below(3) {
                    let sop = format!("1.2.{study}.{series}.{instance}.9");
                    let is_first = series == 0 && instance == 0;
                    let other = match is_first || others.is_empty() || dice.one_in(2) {
                        true => Values::new(),
                        false => dice.pick(&others),
                    };
                    let uids = (&*study_uid, &*series_uid, &*sop);
                    archive.add(dice, uids, &of_study, &of_series, &other);
                }
            }
        }
        archive
    }

    fn add(
        &mut self,
        dice: &mut Dice,
        uids: (&str, &str, &str),
        of_study: &Values,
        of_series: &Values,
        other: &Values,
    ) {
        let sop_class = dice.pick(CLASSES).to_owned();
        let of_instance = values_of(dice, OF_INSTANCES);
        let without_empty = |values: &Values| -> Values {
            let kept = values.iter().filter(|(_, text)| !text.is_empty());
            kept.map(|(tag, text)| (*tag, text.clone())).collect()
        };
        // Two of one study's series with one UID are one series: the first said it all.
        let first =
            (self.instances.iter()).find(|one| (&*one.study, &*one.series) == (uids.0, uids.1));
        let of_series = match first {
            Some(first) => {
                let is_of_series = |tag: &u32| {
                    level_of(Tag((tag >> 16) as u16, *tag as u16)) == Some(Level::Series)
                };
                let kept = first.values.iter().filter(|(tag, _)| is_of_series(tag));
                kept.map(|(tag, text)| (*tag, text.clone())).collect()
            }
            None => of_series.clone(),
        };
        let mut values = without_empty(of_study);
        values.extend(without_empty(&of_series));
        values.extend(without_empty(&of_instance));
        let own = without_empty(other);
        if is_another(&values, &own) {
            values.retain(|tag, _| !is_of_patient(*tag));
            values.extend(own.clone());
        }
        let sequence = self.statements.len() as u64 + 1;
        self.statements.push(Change::Stored(Stored {
            study: Arc::new(StudyFacts {
                study_instance_uid: uids.0.to_owned(),
                date_folder: "20260110".to_owned(),
                values: of_study.clone(),
            }),
            series: Arc::new(SeriesFacts {
                series_instance_uid: uids.1.to_owned(),
                study_instance_uid: uids.0.to_owned(),
                folder: format!("20260110/CT/{}", uids.1),
                values: of_series,
            }),
            instance: InstanceFacts {
                sequence,
                sop_instance_uid: uids.2.to_owned(),
                sop_class_uid: sop_class.clone(),
                transfer_syntax: "1.2.840.10008.1.2.1".to_owned(),
                values: without_empty(&of_instance).into_iter().chain(own).collect(),
                received: "2026-01-15T10:20:00Z".to_owned(),
                source_ae_title: "CT1".to_owned(),
                origin: Default::default(),
                copy: Copy {
                    volume_id: "A".to_owned(),
                    path: format!("20260110/CT/{}.dcm", uids.2),
                    data_offset: 400,
                    size_bytes: 1400,
                    crc32: sequence as u32,
                    file_crc32: 8,
                    bad: false,
                },
            },
        }));
        self.instances.push(Instance {
            study: uids.0.to_owned(),
            series: uids.1.to_owned(),
            sop: uids.2.to_owned(),
            sop_class,
            values,
        });
    }

    /// The entities that match: their UIDs from the study down. At PATIENT level the studies.
    pub fn matches(&self, query: &Query, beyond: &Beyond) -> BTreeSet<Vec<String>> {
        let all = self.instances.iter();
        let found = all.filter(|one| self.fulfils(one, query, beyond));
        let by_patient = is_by_patient(query);
        found
            .map(|one| {
                let mut row = uids_of(query.level, one);
                row.extend(by_patient.then(|| patient_text(&one.values)));
                row
            })
            .collect()
    }

    fn fulfils(&self, one: &Instance, query: &Query, beyond: &Beyond) -> bool {
        let above = query.level <= Level::Study;
        let by_patient = is_by_patient(query);
        let of_study = || {
            let same = |other: &&Instance| match by_patient {
                true => other.part() == one.part(),
                false => other.study == one.study,
            };
            self.instances.iter().filter(same)
        };
        let asked = |tag: u32| query.keys.iter().find(|key| key.tag == tag);
        let mut together = Vec::new();
        for (date, time) in PAIRS {
            if let (Some(date), Some(time)) = (asked(*date), asked(*time))
                && let Some(fulfilled) =
                    matcher::combined((date, time), &one.values, query.options, beyond)
            {
                if !fulfilled {
                    return false;
                }
                together.extend([date.tag, time.tag]);
            }
        }
        query.keys.iter().all(|key| {
            if is_universal(vr_of(key), key, beyond) || together.contains(&key.tag) {
                return true;
            }
            let fits = |value: Option<&str>| value_matches(key, value, query.options, beyond);
            let kept = |one: &Instance, tag: u32| fits(one.values.get(&tag).map(String::as_str));
            match key.tag {
                STUDY => fits(Some(&one.study)),
                SERIES => fits(Some(&one.series)),
                SOP => fits(Some(&one.sop)),
                MODALITIES => of_study()
                    .any(|other| fits(other.values.get(&MODALITY).map(|text| text.trim()))),
                MODALITY if above => of_study().any(|other| kept(other, MODALITY)),
                SOP_CLASSES => of_study().any(|other| fits(Some(&other.sop_class))),
                SOP_CLASS if above => of_study().any(|other| fits(Some(&other.sop_class))),
                SOP_CLASS => fits(Some(&one.sop_class)),
                // A workstation asks so for comments of either kind.
                IMAGE_COMMENTS if above => {
                    kept(one, STUDY_COMMENTS) || of_study().any(|other| kept(other, IMAGE_COMMENTS))
                }
                // Has one value; of several the first counts.
                STUDY_DATE => {
                    let first = one
                        .values
                        .get(&STUDY_DATE)
                        .and_then(|text| text.split('\\').next());
                    fits(first)
                }
                tag if level_of(Tag((tag >> 16) as u16, tag as u16)).is_some() => kept(one, tag),
                _ => true,
            }
        })
    }

    /// Is there a value of what the query asks for of which Kura may see less than the text?
    pub fn may_be_narrower(&self, query: &Query) -> bool {
        query.keys.iter().any(|key| {
            let values = self
                .instances
                .iter()
                .filter_map(|one| one.values.get(&key.tag));
            let mut values = values.flat_map(|value| value.split('\\'));
            values.any(|value| matcher::narrower(vr_of(key), value))
        })
    }

    /// (series, instances) of a study, or of what one patient has of it.
    pub fn counts(&self, study: &str, patient: Option<&str>) -> (usize, usize) {
        let is_his = |one: &&Instance| {
            one.study == study && patient.is_none_or(|patient| patient_text(&one.values) == patient)
        };
        let of_study = self.instances.iter().filter(is_his);
        let series: BTreeSet<&String> = of_study.clone().map(|one| &one.series).collect();
        (series.len(), of_study.count())
    }

    /// Studies by whose they are, in Kura's way: see `people.rs` of the index for the words.
    pub fn patients(&self) -> Vec<BTreeSet<Part>> {
        let mut of_identity: BTreeMap<(String, String), BTreeMap<Part, &Instance>> =
            BTreeMap::new();
        let mut patients: Vec<BTreeSet<Part>> = Vec::new();
        let text = |one: &Instance, tag: u32| {
            one.values
                .get(&tag)
                .map_or("", |text| text.trim())
                .to_owned()
        };
        let mut nameless: BTreeMap<(String, String), BTreeSet<Part>> = BTreeMap::new();
        for one in &self.instances {
            if !text(one, ID).replace('\\', "").trim().is_empty() {
                let identity = (text(one, ID), text(one, ISSUER));
                of_identity
                    .entry(identity)
                    .or_default()
                    .insert(one.part(), one);
            } else {
                let person = match names(one).is_empty() {
                    true => (String::new(), one.study.clone()),
                    false => (text(one, NAME), text(one, BORN)),
                };
                nameless.entry(person).or_default().insert(one.part());
            }
        }
        patients.extend(nameless.into_values());
        for studies in of_identity.into_values() {
            patients.extend(people(studies.into_values().collect()));
        }
        patients
    }
}

fn names(one: &Instance) -> BTreeSet<String> {
    names_in(&one.values)
}

/// Does an instance say another patient than the study? Not by saying nothing.
fn is_another(study: &Values, own: &Values) -> bool {
    let id = |values: &Values| values.get(&ID).map_or("", |text| text.trim()).to_owned();
    let (names, others) = (names_in(study), names_in(own));
    (!id(own).is_empty() && id(own) != id(study))
        || (!names.is_empty() && !others.is_empty() && names.is_disjoint(&others))
}

fn names_in(values: &Values) -> BTreeSet<String> {
    let text = values.get(&NAME).map_or("", String::as_str);
    let groups = text.split(['\\', '=']).map(matcher::name_group);
    groups.filter(|group| !group.is_empty()).collect()
}

/// Studies of one identity, an instance of each, put together person by person.
fn people(studies: Vec<&Instance>) -> Vec<BTreeSet<Part>> {
    struct Person {
        names: BTreeSet<String>,
        born: Option<u64>,
        studies: BTreeSet<Part>,
    }
    let born = |one: &Instance| {
        let text = one.values.get(&BORN)?;
        matcher::date(text.split('\\').next()?, &Beyond::KURA)
    };
    // Those with a name: one person while another has a name and the birth date in common.
    let mut people: Vec<Person> = Vec::new();
    for one in &studies {
        let mut person = Person {
            names: names(one),
            born: born(one),
            studies: BTreeSet::from([one.part()]),
        };
        let same = |other: &Person| {
            other.born == person.born
                && (other.names.is_empty() == person.names.is_empty())
                && (person.names.is_empty() || !other.names.is_disjoint(&person.names))
        };
        let (same, others): (Vec<Person>, Vec<Person>) = people.into_iter().partition(same);
        people = others;
        for other in same {
            person.names.extend(other.names);
            person.studies.extend(other.studies);
        }
        people.push(person);
    }
    // What says less goes to the one person it can be of.
    let mut known: Vec<Person> = Vec::new();
    let rank = |person: &Person| (person.names.is_empty(), person.born.is_none());
    for wanted in [(false, false), (false, true), (true, false), (true, true)] {
        let of_rank = people.iter().filter(|person| rank(person) == wanted);
        let mut came: Vec<Person> = Vec::new();
        for person in of_rank {
            let could_be = |other: &&mut Person| {
                (other.born.is_none() || person.born.is_none() || other.born == person.born)
                    && (person.names.is_empty() || !other.names.is_disjoint(&person.names))
            };
            let mut fitting: Vec<&mut Person> = known.iter_mut().filter(could_be).collect();
            match (wanted, fitting.len()) {
                ((false, false), _) | (_, 0 | 2..) => came.push(Person {
                    names: person.names.clone(),
                    born: person.born,
                    studies: person.studies.clone(),
                }),
                _ => fitting[0].studies.extend(person.studies.clone()),
            }
        }
        known.extend(came);
    }
    known.into_iter().map(|person| person.studies).collect()
}

pub fn uids_of(level: Level, one: &Instance) -> Vec<String> {
    let mut uids = vec![one.study.clone()];
    if level >= Level::Series {
        uids.push(one.series.clone());
    }
    if level >= Level::Instance {
        uids.push(one.sop.clone());
    }
    uids
}

/// An identifier that asks for something like what is there.
pub fn identifier(dice: &mut Dice, archive: &Archive) -> Query {
    let level = dice.pick(&[
        Level::Patient,
        Level::Study,
        Level::Study,
        Level::Series,
        Level::Instance,
    ]);
    let mut query = Query::new(level, Vec::new());
    query.options.combined_date_time = dice.one_in(3);
    query.options.fuzzy_names = dice.one_in(4);
    if dice.one_in(4) {
        query.keys.extend(
            [PATIENT_STUDIES, PATIENT_SERIES, PATIENT_INSTANCES]
                .map(|tag| Key::new(tag, VR::IS, "")),
        );
    }
    for _ in 0..1 + dice.below(3) {
        let mut tags: Vec<(u32, VR)> = Vec::new();
        tags.extend(PATIENT_AND_STUDY);
        tags.extend(&PATIENT_AND_STUDY[..3]);
        tags.extend(OF_SERIES);
        tags.extend(OF_INSTANCES);
        tags.extend([STUDY, SERIES, SOP, SOP_CLASS, SOP_CLASSES].map(|tag| (tag, VR::UI)));
        tags.extend([
            (MODALITY, VR::CS),
            (MODALITIES, VR::CS),
            (0x0009_0010, VR::LO),
        ]);
        if has_sequences() {
            tags.extend([(REQUEST, VR::SQ); 3]);
        }
        if dice.one_in(4) {
            for (tag, vr) in {
                let (date, time) = dice.pick(PAIRS);
                [(date, VR::DA), (time, VR::TM)]
            } {
                let asked = range(dice, vr);
                put(&mut query, Key::new(tag, vr, asked));
            }
            continue;
        }
        let (tag, vr) = dice.pick(&tags);
        let key = if vr == VR::SQ {
            let mut key = Key::new(tag, vr, "");
            for tag in [STEP, PROCEDURE] {
                if !dice.one_in(3) {
                    let text = dice.pick(TEXTS);
                    key.items.push(Key::new(tag, VR::SH, changed(dice, text)));
                }
            }
            key
        } else {
            let asked = asked(dice, archive, tag, vr);
            Key::new(tag, vr, asked)
        };
        put(&mut query, key);
    }
    query
}

/// No tag twice: a data set has each once.
fn put(query: &mut Query, key: Key) {
    query.keys.retain(|other| other.tag != key.tag);
    query.keys.push(key);
}

fn range(dice: &mut Dice, vr: VR) -> String {
    let of = if vr == VR::DA {
        &DATES[..8]
    } else {
        &TIMES[..8]
    };
    let (from, to) = (
        dice.pick(of).replace(['-', '.'], ""),
        dice.pick(of).to_owned(),
    );
    let to = to.replace('-', "");
    match dice.below(6) {
        0 => from,
        1 => format!("{from}-"),
        2 => format!("-{to}"),
        3 => format!("{from} - {to}"),
        _ => format!("{from}-{to}"),
    }
}

fn asked(dice: &mut Dice, archive: &Archive, tag: u32, vr: VR) -> String {
    let one = &archive.instances[dice.below(archive.instances.len())];
    match tag {
        STUDY | SERIES | SOP | SOP_CLASS | SOP_CLASSES => {
            let mut uids = vec![match tag {
                STUDY => one.study.clone(),
                SERIES => one.series.clone(),
                SOP => one.sop.clone(),
                _ => dice.pick(CLASSES).to_owned(),
            }];
            match dice.below(5) {
                0 => uids.push("1.2.1".to_owned()),
                1 => uids.push("1.2.0.0.0.9".to_owned()),
                2 => uids[0].push('0'),
                _ => {}
            }
            return uids.join("\\");
        }
        _ => {}
    }
    if matches!(vr, VR::DA | VR::TM) && !dice.one_in(3) {
        return range(dice, vr);
    }
    let of = match tag {
        MODALITIES => one.values.get(&MODALITY),
        tag => one.values.get(&tag),
    };
    let text = match of {
        Some(text) if !dice.one_in(4) => text.clone(),
        _ if matches!(tag, MODALITY | MODALITIES) => dice.pick(MODALITIES_OF_ALL).to_owned(),
        _ => value_of(dice, vr),
    };
    changed(dice, &text)
}

/// The text as somebody would ask for it, or who mistyped.
fn changed(dice: &mut Dice, text: &str) -> String {
    let letters: Vec<char> = text.chars().collect();
    let cut = |at: usize, to: usize| -> String {
        letters[at.min(letters.len())..to.min(letters.len())]
            .iter()
            .collect()
    };
    let half = dice.below(letters.len() + 1);
    match dice.below(14) {
        0 => String::new(),
        1 => "*".to_owned(),
        2 => text.to_uppercase(),
        3 => text.to_lowercase(),
        4 => format!("{}*", cut(0, half)),
        5 => format!("*{}", cut(half, letters.len())),
        6 => format!("*{}*", cut(half, half + 3)),
        7 => format!("{}*{}", cut(0, half), cut(half + 1, letters.len())),
        8 => format!("{}?{}", cut(0, half), cut(half + 1, letters.len())),
        9 => format!("{text}\\{}", dice.pick(TEXTS)),
        10 => format!(" {text} "),
        11 => text.replace('^', " "),
        12 => cut(0, half),
        _ => text.to_owned(),
    }
}
