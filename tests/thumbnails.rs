//! Promise: every image that can be decoded has a small picture on the administrator's page; what cannot has an icon, and
//! nothing that is stored disturbs the server.

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::time::{Duration, Instant};

use common::build::CT_IMAGE_STORAGE;
use common::files::{self, Good};
use common::pictures::{Drawn, encapsulated, rle};
use common::wire::EXPLICIT_LITTLE;
use common::{Random, Server, Settings, web};
use rustix::process::{Pid, Signal, kill_process};

/// Samples of files beyond this length are looked at in the long campaign only, bytes.
const SAMPLE_BYTES_MAX: usize = 300_000;
/// As is more than so many of one transfer syntax.
const SAMPLES_OF_A_SYNTAX: usize = 6;

const JPEG_LOSSLESS: &str = "1.2.840.10008.1.2.4.70";
const JPEG_2000: &str = "1.2.840.10008.1.2.4.90";
const JPEG_LS: &str = "1.2.840.10008.1.2.4.80";
const RLE: &str = "1.2.840.10008.1.2.5";

fn server() -> Server {
    web::with_page(Settings::default())
}

struct Answer {
    status: u16,
    kind: String,
    tag: String,
    body: Vec<u8>,
}

impl Answer {
    fn is_icon(&self) -> bool {
        (self.status, self.kind.as_str()) == (200, "image/svg+xml") && !self.body.is_empty()
    }

    fn picture(&self) -> Option<Picture> {
        (self.kind == "image/png").then(|| Picture::of(&self.body))
    }
}

fn get_with(server: &Server, path: &str, tag: Option<&str>) -> Answer {
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .timeout_global(Some(Duration::from_secs(90)))
        .build()
        .into();
    let mut request = agent.get(format!("http://{}{path}", web::address(server)));
    if let Some(tag) = tag {
        request = request.header("If-None-Match", tag);
    }
    let mut response = request.call().expect("an answer of the page");
    let header = |name: &str| {
        let value = response.headers().get(name);
        value.map_or(String::new(), |value| {
            value.to_str().expect("text").to_owned()
        })
    };
    let (kind, tag) = (header("content-type"), header("etag"));
    let status = response.status().as_u16();
    let mut body = Vec::new();
    let mut reader = response.body_mut().as_reader();
    reader.read_to_end(&mut body).expect("the body");
    Answer {
        status,
        kind,
        tag,
        body,
    }
}

fn get(server: &Server, path: &str) -> Answer {
    get_with(server, path, None)
}

struct Picture {
    width: u32,
    height: u32,
    channels: usize,
    bytes: Vec<u8>,
}

impl Picture {
    fn of(bytes: &[u8]) -> Picture {
        let decoder = png::Decoder::new(std::io::Cursor::new(bytes));
        let mut reader = decoder.read_info().expect("a PNG");
        let mut bytes = vec![0; reader.output_buffer_size().expect("a small PNG")];
        let info = reader.next_frame(&mut bytes).expect("a whole PNG");
        Picture {
            width: info.width,
            height: info.height,
            channels: info.color_type.samples(),
            bytes,
        }
    }

    fn colors(&self) -> usize {
        let pixels = self.bytes.chunks_exact(self.channels);
        pixels.collect::<BTreeSet<_>>().len()
    }
}

fn store_bytes(server: &Server, syntax: &str, sop: &str, data_set: &[u8]) {
    let mut client = server.associate(&[(1, CT_IMAGE_STORAGE, &[syntax])]);
    let stored = client.c_store(1, CT_IMAGE_STORAGE, sop, data_set);
    assert_eq!(stored.expect("C-STORE").0, 0, "{sop}");
    client.release().expect("release");
}

/// False where the server has a reason not to.
fn store(server: &Server, good: &Good) -> bool {
    let syntax = good.file.transfer_syntax.as_str();
    let mut client = server.associate(&[(1, &good.uids.sop_class, &[syntax])]);
    if client.accepted(1) != Some(syntax) {
        return false;
    }
    let (class, sop) = (&good.uids.sop_class, &good.uids.sop_instance);
    let stored = client.c_store(1, class, sop, &good.file.data_set);
    stored.is_ok_and(|(status, _)| status == 0)
}

/// What is stored and no decoder takes, and images of one colour throughout.
const NOT_SHOWN: &[&str] = &[
    "ct-fragments.dcm",
    "ct-jpeg-2000.dcm",
    "ct-jpeg-ls.dcm",
    "example3.dcm",
    "JPEG2000-embedded-sequence-delimiter.dcm",
    "seg_image_ct_binary.dcm",
    "seg_image_ct_binary_fractional.dcm",
    "seg_image_ct_true_fractional.dcm",
];

/// Method: `testdata/` and, where present, samples of every transfer syntax. Each has a picture with more than one colour,
/// but for those that are known to have none.
#[test]
fn every_image_that_can_be_decoded_has_a_picture() {
    let server = server();
    let mut goods = files::good_below(&files::testdata());
    let mut of_syntax: BTreeMap<String, usize> = BTreeMap::new();
    match files::samples() {
        None => eprintln!("skipped: no folder of samples; testdata/ alone"),
        Some(folder) => {
            for good in files::good_below(&folder) {
                let syntax = good.file.transfer_syntax.clone();
                let count = of_syntax.entry(syntax).or_default();
                let few =
                    good.file.data_set.len() < SAMPLE_BYTES_MAX && *count < SAMPLES_OF_A_SYNTAX;
                if few || common::long() {
                    *count += 1;
                    goods.push(good);
                }
            }
        }
    }
    let mut pictures: BTreeMap<String, usize> = BTreeMap::new();
    let mut wrong = Vec::new();
    for good in &goods {
        if !store(&server, good) {
            continue;
        }
        let (file, sop) = (&good.file, &good.uids.sop_instance);
        let answer = get(&server, &format!("/thumbnails/instance/{sop}"));
        let told = format!("{} {}", file.transfer_syntax, file.name());
        let is_known = NOT_SHOWN.iter().any(|name| file.name().ends_with(name));
        let has_pixels = file.text(0x0028, 0x0010).is_some();
        match answer.picture() {
            Some(picture) => {
                assert!(picture.width.max(picture.height) <= 160, "{told}");
                *pictures.entry(file.transfer_syntax.clone()).or_default() += 1;
                if picture.colors() < 2 && !is_known {
                    wrong.push(format!("of one colour: {told}"));
                }
            }
            None => {
                assert!(answer.is_icon(), "{told}: {}", answer.status);
                if has_pixels && !is_known {
                    wrong.push(format!("no picture: {told}"));
                }
            }
        }
    }
    println!("pictures: {pictures:#?}");
    // The long campaign takes samples that this list was not made of.
    assert!(wrong.is_empty() || common::long(), "{}", wrong.join("\n"));
    if common::long() {
        println!("{}", wrong.join("\n"));
    }
    assert!(pictures.len() >= 5, "{pictures:#?}");
}

/// Method: a series of seven in another order than their UIDs, one of them without an image; and what is asked beside it:
/// another size, the same again, an SR, a UID that is not there, and one that is none.
#[test]
fn a_series_shows_the_image_in_its_middle() {
    let server = server();
    let (study, series) = ("2.25.61", "2.25.62");
    let mut tags = BTreeMap::new();
    for (number, last) in [(1, 9), (2, 4), (3, 8), (4, 1), (5, 7), (6, 2), (7, 6)] {
        let sop = format!("2.25.63.{last}");
        let mut image = Drawn::new(study, series, &sop);
        image.number = number;
        store_bytes(&server, EXPLICIT_LITTLE, &sop, &image.encode());
        let answer = get(&server, &format!("/thumbnails/instance/{sop}"));
        let picture = answer.picture().expect("a picture");
        assert_eq!((picture.width, picture.height), (96, 64));
        tags.insert(number, answer.tag);
    }
    let address = format!("/thumbnails/{series}");
    let answer = get(&server, &address);
    assert_eq!(answer.tag, tags[&4]);
    let again = get_with(&server, &address, Some(&answer.tag));
    assert_eq!((again.status, again.body.len()), (304, 0));
    let small = get(&server, &format!("{address}?size=80"));
    let small = small.picture().expect("a picture");
    assert_eq!((small.width, small.height), (80, 53));
    let odd = get(&server, &format!("{address}?size=100000"));
    assert_eq!(odd.picture().expect("a picture").width, 96);

    let report = files::load("sr.dcm");
    let uids = report.uids().expect("UIDs");
    assert!(store(
        &server,
        &Good {
            file: report,
            uids: uids.clone()
        }
    ));
    assert!(get(&server, &format!("/thumbnails/{}", uids.series)).is_icon());
    for unknown in [
        "2.25.999",
        "..%2f..%2fetc%2fpasswd",
        &"1.".repeat(500),
        "%00",
        "%0d%0aX:%20y",
    ] {
        for folder in ["", "instance/"] {
            let answer = get(&server, &format!("/thumbnails/{folder}{unknown}"));
            assert_eq!(answer.status, 404, "{unknown}");
        }
    }
}

/// Method: images of every compression whose pixel data are cut, garbled by chance or made of noise, and native ones that
/// claim more than they have. Each is asked for; the server goes on answering and storing.
#[test]
fn broken_pixel_data_cost_their_picture_and_nothing_else() {
    let mut server = server();
    let mut random = Random::from_environment("broken_pixel_data");
    let mut sources: Vec<(&str, Vec<u8>)> = vec![(RLE, rle(64, 96))];
    for good in files::good_below(&files::testdata()) {
        let data_set = &good.file.data_set;
        let begin = data_set
            .windows(4)
            .rposition(|four| four == [0xFF, 0xD8, 0xFF, 0xE0]);
        if let (true, Some(begin)) = (good.file.transfer_syntax.ends_with("4.50"), begin) {
            sources.push(("1.2.840.10008.1.2.4.50", data_set[begin..].to_vec()));
        }
    }
    for syntax in [JPEG_LOSSLESS, JPEG_2000, JPEG_LS, RLE] {
        let noise = (0..4000).map(|_| random.next() as u8).collect();
        sources.push((syntax, noise));
    }
    let rounds = if common::long() { 200 } else { 4 };
    let mut number = 0;
    let mut ask = |syntax: &str, shape: (u16, u16), pixel_data: Vec<u8>| {
        number += 1;
        let sop = format!("2.25.64.{number}");
        let mut image = Drawn::new("2.25.65", "2.25.66", &sop);
        (image.rows, image.columns) = shape;
        image.pixel_data = Some(pixel_data);
        store_bytes(&server, syntax, &sop, &image.encode());
        let answer = get(&server, &format!("/thumbnails/instance/{sop}"));
        assert!(
            answer.is_icon() || answer.picture().is_some(),
            "{syntax}: {}",
            answer.status
        );
    };
    for (syntax, source) in &sources {
        for _ in 0..rounds {
            let mut bytes = source.clone();
            match random.between(0, 3) {
                0 => bytes.truncate(random.between(0, bytes.len() as u64) as usize),
                _ => {
                    for _ in 0..random.between(1, 20) {
                        let at = random.between(0, bytes.len() as u64) as usize;
                        bytes[at] = random.next() as u8;
                    }
                }
            }
            ask(syntax, (64, 96), encapsulated(&bytes));
        }
        ask(syntax, (65_535, 65_535), encapsulated(source));
    }
    ask(
        EXPLICIT_LITTLE,
        (65_535, 65_535),
        b"\xE0\x7F\x10\0OW\0\0\x04\0\0\0\x01\0\x02\0".to_vec(),
    );
    ask(
        EXPLICIT_LITTLE,
        (0, 5),
        b"\xE0\x7F\x10\0OW\0\0\0\0\0\0".to_vec(),
    );
    server.assert_alive();
    let good = Drawn::new("2.25.67", "2.25.68", "2.25.69");
    store_bytes(&server, EXPLICIT_LITTLE, "2.25.69", &good.encode());
    assert!(get(&server, "/thumbnails/2.25.68").picture().is_some());
}

/// Method: the decoder is killed as soon as it is there, while it has an image of 64 million pixels before it.
#[test]
fn a_decoder_that_dies_costs_one_picture() {
    let server = server();
    let mut large = Drawn::new("2.25.71", "2.25.72", "2.25.73");
    (large.rows, large.columns) = (8_000, 8_000);
    large.pixel_data = Some(encapsulated(&rle(8_000, 8_000)));
    store_bytes(&server, RLE, "2.25.73", &large.encode());
    assert!(server.workers().is_empty(), "one before it is needed");
    std::thread::scope(|scope| {
        let asked = scope.spawn(|| get(&server, "/thumbnails/2.25.72"));
        let begun = Instant::now();
        loop {
            if let Some(pid) = server.workers().first() {
                kill_process(Pid::from_raw(*pid).expect("a process"), Signal::KILL).expect("kill");
                break;
            }
            assert!(begun.elapsed() < Duration::from_secs(60), "no decoder came");
        }
        assert!(asked.join().expect("an answer").is_icon());
    });
    let good = Drawn::new("2.25.74", "2.25.75", "2.25.76");
    store_bytes(&server, EXPLICIT_LITTLE, "2.25.76", &good.encode());
    assert!(get(&server, "/thumbnails/2.25.75").picture().is_some());
}
