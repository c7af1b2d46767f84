//! JPEG: baseline, extended sequential, progressive and lossless, Huffman-coded (ISO/IEC 10918-1, ITU-T T.81).

use super::jpeg_dct::{Plane, invert, upsampled};
use super::jpeg_huffman::{Bits, Huffman};
use super::{PixelError, Planes, Samples};

/// Markers. Source: T.81 Table B.1.
const SOF0: u8 = 0xC0;
const SOF2: u8 = 0xC2;
const SOF3: u8 = 0xC3;
const DHT: u8 = 0xC4;
const SOI: u8 = 0xD8;
const EOI: u8 = 0xD9;
const SOS: u8 = 0xDA;
const DQT: u8 = 0xDB;
const DRI: u8 = 0xDD;
const APP0: u8 = 0xE0;
const APP14: u8 = 0xEE;

/// From zigzag order. Source: T.81 Figure A.6.
pub(super) const NATURAL: [u8; 64] = [
    0, 1, 8, 16, 9, 2, 3, 10, 17, 24, 32, 25, 18, 11, 4, 5, 12, 19, 26, 33, 40, 48, 41, 34, 27, 20,
    13, 6, 7, 14, 21, 28, 35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23, 30, 37, 44, 51, 58, 59,
    52, 45, 38, 31, 39, 46, 53, 60, 61, 54, 47, 55, 62, 63,
];

fn broken(what: &'static str) -> PixelError {
    PixelError::Damaged(what)
}

#[derive(Debug, Clone)]
struct Component {
    id: u8,
    horizontal: usize,
    vertical: usize,
    table: usize,
    /// Blocks across and down, padded to whole MCUs; of a lossless image samples.
    across: usize,
    down: usize,
    /// Of the blocks that hold the image.
    blocks_across: usize,
    blocks_down: usize,
    was_scanned: bool,
}

struct Frame {
    kind: u8,
    precision: u32,
    width: usize,
    height: usize,
    most: (usize, usize),
    components: Vec<Component>,
}

/// Part of a scan: a component and its tables.
#[derive(Clone, Copy)]
struct Part {
    component: usize,
    dc: usize,
    ac: usize,
}

/// Spectral selection and successive approximation. Source: T.81 B.2.3.
#[derive(Clone, Copy)]
struct Selection {
    start: usize,
    end: usize,
    high: u32,
    low: u32,
}

struct Decoder {
    quantization: [Option<[u16; 64]>; 4],
    dc: [Option<Huffman>; 4],
    ac: [Option<Huffman>; 4],
    restart: usize,
    frame: Option<Frame>,
    /// Coefficients in zigzag order, or lossless samples; one list for each component.
    coefficients: Vec<Vec<[i32; 64]>>,
    lossless: Vec<Vec<u16>>,
    is_jfif: bool,
    adobe: Option<u8>,
}

/// `photometric_ybr`: what the data set says its colours are, for an image that does not tell.
pub fn decode(
    data: &[u8],
    samples_max: usize,
    photometric_ybr: bool,
) -> Result<Samples, PixelError> {
    let mut decoder = Decoder {
        quantization: [None; 4],
        dc: [const { None }; 4],
        ac: [const { None }; 4],
        restart: 0,
        frame: None,
        coefficients: Vec::new(),
        lossless: Vec::new(),
        is_jfif: false,
        adobe: None,
    };
    let mut at = 0;
    let mut ended = false;
    while let Some(marker) = next_marker(data, &mut at) {
        if marker == SOI || (0xD0..=0xD7).contains(&marker) || marker == 1 {
            continue;
        }
        if marker == EOI {
            ended = true;
            break;
        }
        let cut = broken("it is cut short");
        let length = data.get(at..at + 2).ok_or(cut)?;
        let length = usize::from(u16::from_be_bytes([length[0], length[1]])).max(2);
        let cut = broken("it is cut short");
        let segment = data.get(at + 2..at + length).ok_or(cut)?;
        at += length;
        match marker {
            DQT => decoder.quantization(segment)?,
            DHT => decoder.huffman(segment)?,
            DRI => {
                if let [high, low, ..] = segment {
                    decoder.restart = usize::from(u16::from_be_bytes([*high, *low]));
                }
            }
            APP0 if segment.starts_with(b"JFIF\0") => decoder.is_jfif = true,
            APP14 if segment.starts_with(b"Adobe") => decoder.adobe = segment.get(11).copied(),
            SOF0..=SOF3 => decoder.begin(marker, segment, samples_max)?,
            0xC5..=0xCF if marker != 0xC8 && marker != 0xCC => {
                return Err(PixelError::Unsupported(
                    "hierarchical or arithmetically coded JPEG",
                ));
            }
            SOS => at += decoder.scan(segment, &data[at..])?,
            _ => {}
        }
    }
    // Some writers forget the end, but not a scan.
    decoder.finish(ended, photometric_ybr)
}

/// The next marker from `at` on; what stands between is passed over.
fn next_marker(data: &[u8], at: &mut usize) -> Option<u8> {
    loop {
        let rest = data.get(*at..)?;
        let found = rest.iter().position(|&byte| byte == 0xFF)?;
        *at += found + 1;
        match *data.get(*at)? {
            0 => *at += 1,
            0xFF => {}
            marker => {
                *at += 1;
                return Some(marker);
            }
        }
    }
}

impl Decoder {
    fn quantization(&mut self, mut segment: &[u8]) -> Result<(), PixelError> {
        while let [head, rest @ ..] = segment {
            let wide = head >> 4 != 0;
            let size = if wide { 128 } else { 64 };
            let (values, after) = rest
                .split_at_checked(size)
                .ok_or(broken("a quantization table is cut short"))?;
            let mut table = [0u16; 64];
            for (at, value) in table.iter_mut().enumerate() {
                *value = match wide {
                    true => u16::from_be_bytes([values[2 * at], values[2 * at + 1]]),
                    false => u16::from(values[at]),
                };
            }
            self.quantization[usize::from(head & 3)] = Some(table);
            segment = after;
        }
        Ok(())
    }

    fn huffman(&mut self, mut segment: &[u8]) -> Result<(), PixelError> {
        while let [head, rest @ ..] = segment {
            let (counts, rest) = rest
                .split_at_checked(16)
                .ok_or(broken("a Huffman table is cut short"))?;
            let count = counts.iter().map(|&count| usize::from(count)).sum();
            let (values, after) = rest
                .split_at_checked(count)
                .ok_or(broken("a Huffman table is cut short"))?;
            let table = Huffman::new(counts, values)?;
            let place = usize::from(head & 3);
            match head >> 4 {
                0 => self.dc[place] = Some(table),
                _ => self.ac[place] = Some(table),
            }
            segment = after;
        }
        Ok(())
    }

    fn begin(&mut self, kind: u8, segment: &[u8], samples_max: usize) -> Result<(), PixelError> {
        let [precision, h1, h0, w1, w0, count, rest @ ..] = segment else {
            return Err(broken("a frame header is too short"));
        };
        let precision = u32::from(*precision);
        let height = usize::from(u16::from_be_bytes([*h1, *h0]));
        let width = usize::from(u16::from_be_bytes([*w1, *w0]));
        let count = usize::from(*count);
        let lossless = kind == SOF3;
        let fits = match lossless {
            true => (2..=16).contains(&precision),
            false => precision == 8 || (precision == 12 && kind != SOF0),
        };
        if !fits
            || !(1..=4).contains(&count)
            || rest.len() < 3 * count
            || width * height == 0
            || self.frame.is_some()
        {
            return Err(broken("its frame header makes no sense"));
        }
        if (width * height).saturating_mul(count) > samples_max {
            return Err(PixelError::Size);
        }
        let mut components = Vec::new();
        for part in rest.chunks_exact(3).take(count) {
            let (horizontal, vertical) = (usize::from(part[1] >> 4), usize::from(part[1] & 15));
            if !(1..=4).contains(&horizontal) || !(1..=4).contains(&vertical) {
                return Err(broken("its frame header makes no sense"));
            }
            components.push(Component {
                id: part[0],
                horizontal,
                vertical,
                table: usize::from(part[2] & 3),
                across: 0,
                down: 0,
                blocks_across: 0,
                blocks_down: 0,
                was_scanned: false,
            });
        }
        // One component alone is not subsampled, whatever it says (T.81 A.2.2).
        if let [only] = components.as_mut_slice() {
            (only.horizontal, only.vertical) = (1, 1);
        }
        let most = components.iter().fold((1, 1), |most, component| {
            (
                most.0.max(component.horizontal),
                most.1.max(component.vertical),
            )
        });
        if lossless && most != (1, 1) {
            return Err(PixelError::Unsupported("lossless JPEG with subsampling"));
        }
        for component in &mut components {
            if lossless {
                (component.across, component.down) = (width, height);
                self.lossless.push(vec![0; width * height]);
                continue;
            }
            component.across = width.div_ceil(8 * most.0) * component.horizontal;
            component.down = height.div_ceil(8 * most.1) * component.vertical;
            component.blocks_across = (width * component.horizontal).div_ceil(8 * most.0);
            component.blocks_down = (height * component.vertical).div_ceil(8 * most.1);
            let blocks = component.across * component.down;
            self.coefficients.push(vec![[0; 64]; blocks]);
        }
        self.frame = Some(Frame {
            kind,
            precision,
            width,
            height,
            most,
            components,
        });
        Ok(())
    }

    /// Where the scan's bytes end.
    fn scan(&mut self, segment: &[u8], data: &[u8]) -> Result<usize, PixelError> {
        let frame = self
            .frame
            .as_mut()
            .ok_or(broken("a scan without a frame"))?;
        let count = usize::from(*segment.first().unwrap_or(&0));
        let Some(&[start, end, approximation]) = segment.get(1 + 2 * count..4 + 2 * count) else {
            return Err(broken("a scan header is too short"));
        };
        let mut parts: Vec<Part> = Vec::new();
        for part in segment[1..1 + 2 * count].chunks_exact(2) {
            let place = frame.components.iter().position(|c| c.id == part[0]);
            let component = place.ok_or(broken("a scan of a component that there is not"))?;
            if parts.iter().any(|other| other.component == component) {
                return Err(broken("a scan names a component twice"));
            }
            frame.components[component].was_scanned = true;
            parts.push(Part {
                component,
                dc: usize::from(part[1] >> 4 & 3),
                ac: usize::from(part[1] & 3),
            });
        }
        let selection = Selection {
            start: usize::from(start),
            end: usize::from(end),
            high: u32::from(approximation >> 4),
            low: u32::from(approximation & 15),
        };
        if parts.is_empty() || selection.low > 13 {
            return Err(broken("its scan header makes no sense"));
        }
        let mut bits = Bits::new(data);
        match frame.kind {
            SOF3 => self.lossless_scan(&mut bits, &parts, selection)?,
            kind => {
                let progressive = kind == SOF2;
                let makes_sense = match progressive {
                    true => {
                        selection.start <= selection.end
                            && selection.end < 64
                            && (selection.start > 0 || selection.end == 0)
                            && (selection.start == 0 || parts.len() == 1)
                    }
                    false => true,
                };
                if !makes_sense {
                    return Err(broken("its scan header makes no sense"));
                }
                let selection = match progressive {
                    true => selection,
                    false => Selection {
                        start: 0,
                        end: 63,
                        high: 0,
                        low: 0,
                    },
                };
                self.dct_scan(&mut bits, &parts, selection, progressive)?;
            }
        }
        Ok(bits.ended_at())
    }

    /// Source: T.81 F.2, G.2.
    fn dct_scan(
        &mut self,
        bits: &mut Bits,
        parts: &[Part],
        selection: Selection,
        progressive: bool,
    ) -> Result<(), PixelError> {
        let Some(frame) = &self.frame else {
            return Err(broken("a scan without a frame"));
        };
        let mut dc_before = [0i32; 4];
        let mut run = 0u32;
        let alone = parts.len() == 1;
        let (across, down) = match (parts, alone) {
            ([only], true) => {
                let component = &frame.components[only.component];
                (component.blocks_across, component.blocks_down)
            }
            _ => (
                frame.width.div_ceil(8 * frame.most.0),
                frame.height.div_ceil(8 * frame.most.1),
            ),
        };
        for mcu in 0..across * down {
            if self.restart > 0 && mcu > 0 && mcu % self.restart == 0 {
                bits.restart()?;
                dc_before = [0; 4];
                run = 0;
            }
            let (x, y) = (mcu % across, mcu / across);
            for part in parts {
                let component = &frame.components[part.component];
                let (h, v) = match alone {
                    true => (1, 1),
                    false => (component.horizontal, component.vertical),
                };
                for block in 0..h * v {
                    let (bx, by) = (x * h + block % h, y * v + block / h);
                    let block = &mut self.coefficients[part.component][by * component.across + bx];
                    let dc = self.dc[part.dc].as_ref();
                    let ac = self.ac[part.ac].as_ref();
                    let before = &mut dc_before[part.component];
                    match (progressive, selection.start, selection.high) {
                        (false, ..) => {
                            dc_first(bits, dc, before, block, 0)?;
                            ac_sequential(bits, ac, block)?;
                        }
                        (true, 0, 0) => dc_first(bits, dc, before, block, selection.low)?,
                        (true, 0, _) => {
                            if bits.take(1) == 1 {
                                block[0] |= 1 << selection.low;
                            }
                        }
                        (true, _, 0) => ac_first(bits, ac, block, selection, &mut run)?,
                        (true, ..) => ac_refine(bits, ac, block, selection, &mut run)?,
                    }
                }
            }
            if bits.is_over() {
                return Err(broken("a scan is cut short"));
            }
        }
        Ok(())
    }

    /// Source: T.81 H.2.
    fn lossless_scan(
        &mut self,
        bits: &mut Bits,
        parts: &[Part],
        selection: Selection,
    ) -> Result<(), PixelError> {
        let Some(frame) = &self.frame else {
            return Err(broken("a scan without a frame"));
        };
        let (width, height) = (frame.width, frame.height);
        let predictor = selection.start;
        if !(1..=7).contains(&predictor) || selection.low >= frame.precision {
            return Err(broken("its predictor is none"));
        }
        let middle = 1i32 << (frame.precision - selection.low - 1);
        let mut in_first_line = true;
        let mut begins = true;
        for at in 0..width * height {
            if self.restart > 0 && at > 0 && at % self.restart == 0 {
                bits.restart()?;
                (in_first_line, begins) = (true, true);
            } else if at % width == 0 && at > 0 && !begins {
                in_first_line = false;
            }
            let first_in_line = at % width == 0;
            for part in parts {
                let table = self.dc[part.dc]
                    .as_ref()
                    .ok_or(broken("a Huffman table is missing"))?;
                let plane = &mut self.lossless[part.component];
                let sample = |back: usize| i32::from(plane[at - back]);
                let predicted = if begins {
                    middle
                } else if in_first_line && !first_in_line {
                    sample(1)
                } else if first_in_line {
                    sample(width)
                } else {
                    let (a, b, c) = (sample(1), sample(width), sample(width + 1));
                    match predictor {
                        1 => a,
                        2 => b,
                        3 => c,
                        4 => a + b - c,
                        5 => a + ((b - c) >> 1),
                        6 => b + ((a - c) >> 1),
                        _ => (a + b) >> 1,
                    }
                };
                let size = u32::from(table.symbol(bits)?);
                let difference = match size {
                    0..=15 => bits.signed(size),
                    16 => 32_768,
                    _ => return Err(broken("a difference is too long")),
                };
                // Modulo 65536 (T.81 H.1.2.1).
                plane[at] = (predicted + difference) as u16;
            }
            begins = false;
            if first_in_line && bits.is_over() {
                return Err(broken("a scan is cut short"));
            }
        }
        if bits.is_over() {
            return Err(broken("a scan is cut short"));
        }
        if selection.low > 0 {
            for part in parts {
                for sample in &mut self.lossless[part.component] {
                    *sample <<= selection.low;
                }
            }
        }
        Ok(())
    }

    fn finish(self, ended: bool, photometric_ybr: bool) -> Result<Samples, PixelError> {
        let frame = self.frame.ok_or(broken("it has no frame header"))?;
        if frame.components.iter().any(|c| !c.was_scanned) || (frame.kind == SOF2 && !ended) {
            return Err(broken("it ends before its last scan"));
        }
        let (width, height, precision) = (frame.width, frame.height, frame.precision);
        if frame.kind == SOF3 {
            return Ok(Samples::of_planes(self.lossless, width, height, precision));
        }
        let mut planes = Vec::new();
        for (component, blocks) in frame.components.iter().zip(self.coefficients) {
            let table = self.quantization[component.table]
                .as_ref()
                .ok_or(broken("a quantization table is missing"))?;
            let mut plane = Plane {
                width: component.across * 8,
                samples: vec![0; component.across * component.down * 64],
            };
            for (at, block) in blocks.iter().enumerate() {
                let (x, y) = (at % component.across, at / component.across);
                invert(block, table, precision, &mut plane, x * 8, y * 8);
            }
            let factors = (
                frame.most.0 / component.horizontal,
                frame.most.1 / component.vertical,
            );
            if frame.most.0 % component.horizontal != 0 || frame.most.1 % component.vertical != 0 {
                return Err(PixelError::Unsupported("JPEG with fractional subsampling"));
            }
            planes.push(upsampled(&plane, factors, width, height));
        }
        let ids: Vec<u8> = frame.components.iter().map(|c| c.id).collect();
        // What the image says of itself counts before what the data set says; Adobe's 0 is "unknown", meant as RGB.
        let is_ybr = planes.len() == 3
            && match self.adobe {
                Some(transform) => transform == 1,
                None if self.is_jfif => true,
                None if ids == *b"RGB" => false,
                None => photometric_ybr,
            };
        if is_ybr {
            to_rgb(&mut planes, precision);
        }
        Ok(Samples {
            width,
            height,
            precision,
            planes: Planes::Narrow(planes),
            is_rgb: frame.components.len() == 3,
        })
    }
}

fn dc_first(
    bits: &mut Bits,
    table: Option<&Huffman>,
    before: &mut i32,
    block: &mut [i32; 64],
    low: u32,
) -> Result<(), PixelError> {
    let table = table.ok_or(broken("a Huffman table is missing"))?;
    let size = u32::from(table.symbol(bits)?);
    if size > 16 {
        return Err(broken("a difference is too long"));
    }
    *before = (*before + bits.signed(size)).clamp(-(1 << 20), 1 << 20);
    block[0] = *before << low;
    Ok(())
}

/// Source: T.81 F.2.2.2.
fn ac_sequential(
    bits: &mut Bits,
    table: Option<&Huffman>,
    block: &mut [i32; 64],
) -> Result<(), PixelError> {
    let table = table.ok_or(broken("a Huffman table is missing"))?;
    let mut k = 1;
    while k < 64 {
        let symbol = table.symbol(bits)?;
        let (zeros, size) = (usize::from(symbol >> 4), u32::from(symbol & 15));
        if size == 0 {
            if zeros < 15 {
                break;
            }
            k += 16;
            continue;
        }
        k += zeros;
        let place = block.get_mut(k).ok_or(broken("a block is too long"))?;
        *place = bits.signed(size);
        k += 1;
    }
    Ok(())
}

/// Source: T.81 G.1.2.2.
fn ac_first(
    bits: &mut Bits,
    table: Option<&Huffman>,
    block: &mut [i32; 64],
    selection: Selection,
    run: &mut u32,
) -> Result<(), PixelError> {
    if *run > 0 {
        *run -= 1;
        return Ok(());
    }
    let table = table.ok_or(broken("a Huffman table is missing"))?;
    let mut k = selection.start;
    while k <= selection.end {
        let symbol = table.symbol(bits)?;
        let (zeros, size) = (usize::from(symbol >> 4), u32::from(symbol & 15));
        if size == 0 {
            if zeros < 15 {
                *run = (1 << zeros) - 1 + bits.take(zeros as u32);
                break;
            }
            k += 16;
            continue;
        }
        k += zeros;
        if k > selection.end {
            return Err(broken("a block is too long"));
        }
        block[k] = bits.signed(size) << selection.low;
        k += 1;
    }
    Ok(())
}

/// Source: T.81 G.1.2.3.
fn ac_refine(
    bits: &mut Bits,
    table: Option<&Huffman>,
    block: &mut [i32; 64],
    selection: Selection,
    run: &mut u32,
) -> Result<(), PixelError> {
    let table = table.ok_or(broken("a Huffman table is missing"))?;
    let one = 1i32 << selection.low;
    let refine = |bits: &mut Bits, value: &mut i32| {
        if bits.take(1) == 1 && *value & one == 0 {
            *value += if *value < 0 { -one } else { one };
        }
    };
    let mut k = selection.start;
    if *run == 0 {
        while k <= selection.end {
            let symbol = table.symbol(bits)?;
            let (mut zeros, size) = (u32::from(symbol >> 4), symbol & 15);
            let mut new = 0;
            if size == 0 {
                if zeros < 15 {
                    *run = (1 << zeros) + bits.take(zeros);
                    break;
                }
            } else {
                new = if bits.take(1) == 1 { one } else { -one };
            }
            while k <= selection.end {
                let value = &mut block[k];
                if *value != 0 {
                    refine(bits, value);
                } else if zeros == 0 {
                    *value = new;
                    k += 1;
                    break;
                } else {
                    zeros -= 1;
                }
                k += 1;
            }
        }
    }
    if *run > 0 {
        for value in &mut block[k..=selection.end] {
            if *value != 0 {
                refine(bits, value);
            }
        }
        *run -= 1;
    }
    Ok(())
}

/// Source: ITU-T T.871 7.
fn to_rgb(planes: &mut [Vec<u16>], precision: u32) {
    let [red, green, blue] = planes else { return };
    let middle = 1i64 << (precision - 1);
    let most = (1i64 << precision) - 1;
    // In 65536ths: 1.402, 0.344136, 0.714136, 1.772.
    for ((first, second), third) in red.iter_mut().zip(green).zip(blue) {
        let (y, cb, cr) = (
            i64::from(*first),
            i64::from(*second) - middle,
            i64::from(*third) - middle,
        );
        let half = 1 << 15;
        let fit = |value: i64| value.clamp(0, most) as u16;
        *first = fit(y + ((91_881 * cr + half) >> 16));
        *second = fit(y + ((-22_554 * cb - 46_802 * cr + half) >> 16));
        *third = fit(y + ((116_130 * cb + half) >> 16));
    }
}
