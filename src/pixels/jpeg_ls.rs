//! JPEG-LS: lossless and near-lossless images (ISO/IEC 14495-1, ITU-T T.87).

use super::{PixelError, Samples};

/// Start of frame, parameters, scan, restart interval, end. Source: T.87 C.1.
const SOF_55: u8 = 0xF7;
const LSE: u8 = 0xF8;
const SOS: u8 = 0xDA;
const DRI: u8 = 0xDD;
const SOI: u8 = 0xD8;
const EOI: u8 = 0xD9;

/// Order of run lengths. Source: T.87 A.2.1.
const J: [u32; 32] = [
    0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8, 9, 10, 11, 12, 13,
    14, 15,
];

fn broken(what: &'static str) -> PixelError {
    PixelError::Damaged(what)
}

/// The parameters of a scan. Source: T.87 C.2.4.1.
#[derive(Debug, Clone, Copy)]
struct Preset {
    maximum: i32,
    thresholds: [i32; 3],
    reset: i32,
}

impl Preset {
    /// Those that hold where none are given. Source: T.87 C.2.4.1.1.1.
    fn standard(maximum: i32, near: i32) -> Preset {
        let clamp = |value: i32, least: i32| {
            if value > maximum || value < least {
                least
            } else {
                value
            }
        };
        let basic = if maximum >= 128 {
            let factor = (maximum.min(4095) + 128) / 256;
            [
                factor + 2 + 3 * near,
                factor * 4 + 3 + 5 * near,
                factor * 17 + 4 + 7 * near,
            ]
        } else {
            let factor = 256 / (maximum + 1);
            [
                (3 / factor + 3 * near).max(2),
                (7 / factor + 5 * near).max(3),
                (21 / factor + 7 * near).max(4),
            ]
        };
        let one = clamp(basic[0], near + 1);
        let two = clamp(basic[1], one);
        Preset {
            maximum,
            thresholds: [one, two, clamp(basic[2], two)],
            reset: 64,
        }
    }
}

struct Frame {
    precision: u32,
    width: usize,
    height: usize,
    components: Vec<u8>,
}

pub fn decode(data: &[u8], samples_max: usize) -> Result<Samples, PixelError> {
    let mut at = 0;
    let mut frame: Option<Frame> = None;
    let mut given: Option<(i32, [i32; 3], i32)> = None;
    let mut planes: Vec<Vec<u16>> = Vec::new();
    let mut done = 0;
    loop {
        let marker = next_marker(data, &mut at)?;
        if marker == SOI {
            continue;
        }
        if marker == EOI {
            break;
        }
        let length = data.get(at..at + 2).ok_or(broken("it is cut short"))?;
        let length = usize::from(u16::from_be_bytes([length[0], length[1]]));
        let segment = data
            .get(at + 2..at + length.max(2))
            .ok_or(broken("it is cut short"))?;
        at += length.max(2);
        match marker {
            SOF_55 => {
                let [precision, h1, h0, w1, w0, count, rest @ ..] = segment else {
                    return Err(broken("a frame header is too short"));
                };
                let found = Frame {
                    precision: u32::from(*precision),
                    height: usize::from(u16::from_be_bytes([*h1, *h0])),
                    width: usize::from(u16::from_be_bytes([*w1, *w0])),
                    components: rest.chunks_exact(3).map(|part| part[0]).collect(),
                };
                let subsampled = rest.chunks_exact(3).any(|part| part[1] != 0x11);
                let count = usize::from(*count);
                let size = found.width * found.height;
                if !(2..=16).contains(&found.precision)
                    || found.components.len() != count
                    || !(1..=4).contains(&count)
                    || subsampled
                    || size == 0
                    || frame.is_some()
                {
                    return Err(broken("its frame header makes no sense"));
                }
                if size.saturating_mul(count) > samples_max {
                    return Err(PixelError::Size);
                }
                planes = vec![vec![0; size]; count];
                frame = Some(found);
            }
            LSE => match segment {
                [1, rest @ ..] if rest.len() >= 10 => {
                    let number =
                        |at: usize| i32::from(u16::from_be_bytes([rest[at], rest[at + 1]]));
                    given = Some((number(0), [number(2), number(4), number(6)], number(8)));
                }
                _ => return Err(PixelError::Unsupported("JPEG-LS with a mapping table")),
            },
            DRI if segment.iter().any(|&byte| byte != 0) => {
                return Err(PixelError::Unsupported("JPEG-LS with restart intervals"));
            }
            0xE8 if segment.starts_with(b"mrfx") && segment.get(4).is_some_and(|&b| b != 0) => {
                return Err(PixelError::Unsupported("JPEG-LS with a colour transform"));
            }
            SOS => {
                let frame = frame.as_ref().ok_or(broken("a scan without a frame"))?;
                let count = usize::from(*segment.first().unwrap_or(&0));
                let Some([near, interleave, shift]) = segment.get(1 + 2 * count..4 + 2 * count)
                else {
                    return Err(broken("a scan header is too short"));
                };
                let mut parts = Vec::new();
                for part in segment[1..1 + 2 * count].chunks_exact(2) {
                    let place = frame.components.iter().position(|id| *id == part[0]);
                    let place = place.ok_or(broken("a scan of a component that there is not"))?;
                    if parts.contains(&place) {
                        return Err(broken("a scan names a component twice"));
                    }
                    parts.push(place);
                }
                if *shift != 0 {
                    return Err(PixelError::Unsupported("JPEG-LS with a point transform"));
                }
                let near = i32::from(*near);
                let full = (1 << frame.precision) - 1;
                let maximum = match given {
                    Some((maximum, ..)) if (1..=full).contains(&maximum) => maximum,
                    _ => full,
                };
                let mut preset = Preset::standard(maximum, near);
                if let Some((_, thresholds, reset)) = given {
                    for (own, given) in preset.thresholds.iter_mut().zip(thresholds) {
                        if given != 0 {
                            *own = given;
                        }
                    }
                    if reset != 0 {
                        preset.reset = reset;
                    }
                }
                if near > 255.min(maximum / 2) || !(3..=4096).contains(&preset.reset) {
                    return Err(broken("its scan header makes no sense"));
                }
                let mut scan = Scan::new(&data[at..], preset, near);
                match (interleave, parts.as_slice()) {
                    (0, [only]) => scan.lines(&mut planes, &[*only], frame.width, frame.height)?,
                    (1, _) if !parts.is_empty() => {
                        scan.lines(&mut planes, &parts, frame.width, frame.height)?;
                    }
                    (2, [_]) => scan.lines(&mut planes, &parts, frame.width, frame.height)?,
                    (2, _) if !parts.is_empty() => {
                        scan.together(&mut planes, &parts, frame.width, frame.height)?;
                    }
                    _ => return Err(broken("its scan header makes no sense")),
                }
                at += scan.bits.ended_at();
                done += parts.len();
                if done >= planes.len() {
                    break;
                }
            }
            _ => {}
        }
    }
    let frame = frame.ok_or(broken("it has no frame header"))?;
    if done < planes.len() {
        return Err(broken("it ends before its last scan"));
    }
    Ok(Samples::of_planes(
        planes,
        frame.width,
        frame.height,
        frame.precision,
    ))
}

/// Skips to the next marker.
fn next_marker(data: &[u8], at: &mut usize) -> Result<u8, PixelError> {
    let rest = data.get(*at..).unwrap_or_default();
    let found = rest
        .windows(2)
        .position(|pair| pair[0] == 0xFF && (0xC0..0xFF).contains(&pair[1]));
    let found = found.ok_or(broken("it ends in the middle"))?;
    *at += found + 2;
    Ok(rest[found + 1])
}

/// Bits of a scan; after FFH a byte has seven. Source: T.87 A.1.
struct Bits<'a> {
    data: &'a [u8],
    at: usize,
    held: u64,
    count: u32,
    /// Bits beyond the end that were made up.
    missing: u32,
}

impl Bits<'_> {
    fn fill(&mut self) {
        while self.count <= 48 {
            let after_ff = self.at > 0 && self.data[self.at - 1] == 0xFF;
            let ends = |byte: &u8| after_ff && *byte & 0x80 != 0;
            match self.data.get(self.at) {
                Some(&byte) if !ends(&byte) => {
                    let bits = if after_ff { 7 } else { 8 };
                    // The other bits of a byte behind FFH are zero.
                    self.held |= u64::from(byte) << (64 - bits - self.count);
                    self.count += bits;
                    self.at += 1;
                }
                // A marker, or the end: zeros, which the caller finds out.
                _ => {
                    self.missing += 8;
                    self.count += 8;
                }
            }
        }
    }

    fn take(&mut self, count: u32) -> u32 {
        if count == 0 {
            return 0;
        }
        if self.count < count {
            self.fill();
        }
        let value = (self.held >> (64 - count)) as u32;
        self.held <<= count;
        self.count -= count;
        value
    }

    /// Zeros before the next one, which is taken too.
    fn zeros(&mut self, most: u32) -> Result<u32, PixelError> {
        let mut zeros = 0;
        loop {
            if self.count == 0 {
                self.fill();
            }
            let leading = self.held.leading_zeros().min(self.count);
            zeros += leading;
            if zeros > most {
                return Err(broken("a code is too long"));
            }
            if leading < self.count {
                self.held <<= leading;
                self.held <<= 1;
                self.count -= leading + 1;
                return Ok(zeros);
            }
            self.held = 0;
            self.count = 0;
        }
    }

    /// More bits were asked for than there are.
    fn is_over(&self) -> bool {
        self.missing > self.count
    }

    /// Where the scan's bytes end, or before.
    fn ended_at(&self) -> usize {
        self.at
            .saturating_sub(if self.at > 0 && self.data[self.at - 1] == 0xFF {
                1
            } else {
                0
            })
    }
}

/// What was learnt of a context. Source: T.87 A.2.1.
#[derive(Clone, Copy)]
struct Learnt {
    a: i32,
    b: i32,
    c: i32,
    n: i32,
}

#[derive(Clone, Copy)]
struct LearntRun {
    a: i32,
    n: i32,
    negative: i32,
    kind: i32,
}

struct Scan<'a> {
    bits: Bits<'a>,
    preset: Preset,
    near: i32,
    range: i32,
    /// Bits of a value of the range.
    range_bits: u32,
    limit: u32,
    regular: Vec<Learnt>,
    runs: [LearntRun; 2],
    run_index: usize,
}

impl<'a> Scan<'a> {
    fn new(data: &'a [u8], preset: Preset, near: i32) -> Scan<'a> {
        let bits_for = |values: i32| 32 - (values - 1).leading_zeros();
        let range = (preset.maximum + 2 * near) / (2 * near + 1) + 1;
        let value_bits = bits_for(preset.maximum + 1).max(2);
        let a = ((range + 32) / 64).max(2);
        let run = |kind| LearntRun {
            a,
            n: 1,
            negative: 0,
            kind,
        };
        Scan {
            bits: Bits {
                data,
                at: 0,
                held: 0,
                count: 0,
                missing: 0,
            },
            preset,
            near,
            range,
            range_bits: bits_for(range),
            limit: 2 * (value_bits + value_bits.max(8)),
            regular: vec![
                Learnt {
                    a,
                    b: 0,
                    c: 0,
                    n: 1
                };
                365
            ],
            runs: [run(0), run(1)],
            run_index: 0,
        }
    }

    /// One component, or several line by line.
    fn lines(
        &mut self,
        planes: &mut [Vec<u16>],
        parts: &[usize],
        width: usize,
        height: usize,
    ) -> Result<(), PixelError> {
        // Each with a sample more at both ends.
        let mut before = vec![vec![0i32; width + 2]; parts.len()];
        let mut line = vec![vec![0i32; width + 2]; parts.len()];
        let mut run_indexes = vec![0; parts.len()];
        for row in 0..height {
            for (place, &part) in parts.iter().enumerate() {
                self.run_index = run_indexes[place];
                let (before, line) = (&mut before[place], &mut line[place]);
                before[width + 1] = before[width];
                line[0] = before[1];
                self.line(before, line, width)?;
                let row = &mut planes[part][row * width..][..width];
                for (sample, value) in row.iter_mut().zip(&line[1..]) {
                    *sample = *value as u16;
                }
                std::mem::swap(before, line);
                run_indexes[place] = self.run_index;
            }
            if self.bits.is_over() {
                return Err(broken("it is cut short"));
            }
        }
        Ok(())
    }

    fn line(&mut self, before: &[i32], line: &mut [i32], width: usize) -> Result<(), PixelError> {
        let mut at = 1;
        while at <= width {
            let (a, b, c, d) = (line[at - 1], before[at], before[at - 1], before[at + 1]);
            let context = self.context(a, b, c, d);
            if context != 0 {
                line[at] = self.sample(context, a, b, c)?;
                at += 1;
                continue;
            }
            let length = self.run_length(width + 1 - at)?;
            line[at..at + length].fill(a);
            at += length;
            if at <= width {
                line[at] = self.run_end(a, before[at])?;
                self.run_index = self.run_index.saturating_sub(1);
                at += 1;
            }
        }
        Ok(())
    }

    /// Several components sample by sample.
    fn together(
        &mut self,
        planes: &mut [Vec<u16>],
        parts: &[usize],
        width: usize,
        height: usize,
    ) -> Result<(), PixelError> {
        let mut before = vec![vec![0i32; width + 2]; parts.len()];
        let mut line = vec![vec![0i32; width + 2]; parts.len()];
        let mut contexts = vec![0; parts.len()];
        for row in 0..height {
            for (before, line) in before.iter_mut().zip(&mut line) {
                before[width + 1] = before[width];
                line[0] = before[1];
            }
            let mut at = 1;
            while at <= width {
                for (place, context) in contexts.iter_mut().enumerate() {
                    let (before, line) = (&before[place], &line[place]);
                    *context =
                        self.context(line[at - 1], before[at], before[at - 1], before[at + 1]);
                }
                if contexts.iter().any(|context| *context != 0) {
                    for (place, context) in contexts.iter().enumerate() {
                        let (a, b) = (line[place][at - 1], before[place][at]);
                        line[place][at] = self.sample(*context, a, b, before[place][at - 1])?;
                    }
                    at += 1;
                    continue;
                }
                let length = self.run_length(width + 1 - at)?;
                for line in &mut line {
                    let a = line[at - 1];
                    line[at..at + length].fill(a);
                }
                at += length;
                if at <= width {
                    for (before, line) in before.iter().zip(&mut line) {
                        let (a, b) = (line[at - 1], before[at]);
                        let error = self.run_error(0)?;
                        line[at] = self.with_error(b, error * (b - a).signum_or_one());
                    }
                    self.run_index = self.run_index.saturating_sub(1);
                    at += 1;
                }
            }
            if self.bits.is_over() {
                return Err(broken("it is cut short"));
            }
            for (place, &part) in parts.iter().enumerate() {
                let row = &mut planes[part][row * width..][..width];
                for (sample, value) in row.iter_mut().zip(&line[place][1..]) {
                    *sample = *value as u16;
                }
            }
            std::mem::swap(&mut before, &mut line);
        }
        Ok(())
    }

    /// Signed; 0: a run. Source: T.87 A.3.
    fn context(&self, a: i32, b: i32, c: i32, d: i32) -> i32 {
        (self.step(d - b) * 9 + self.step(b - c)) * 9 + self.step(c - a)
    }

    fn step(&self, difference: i32) -> i32 {
        let [one, two, three] = self.preset.thresholds;
        let size = difference.abs();
        // The standard's borders are the same for both signs.
        let step = if size <= self.near {
            0
        } else if size < one {
            1
        } else if size < two {
            2
        } else if size < three {
            3
        } else {
            4
        };
        if difference < 0 { -step } else { step }
    }

    /// Source: T.87 A.4 to A.6.
    fn sample(&mut self, context: i32, a: i32, b: i32, c: i32) -> Result<i32, PixelError> {
        let sign = if context < 0 { -1 } else { 1 };
        let predicted = if c >= a.max(b) {
            a.min(b)
        } else if c <= a.min(b) {
            a.max(b)
        } else {
            a + b - c
        };
        let place = context.unsigned_abs() as usize;
        let learnt = self.regular[place];
        let predicted = (predicted + sign * learnt.c).clamp(0, self.preset.maximum);
        let mut k = 0;
        while (i64::from(learnt.n) << k) < i64::from(learnt.a) {
            k += 1;
        }
        let mapped = self.code(k, self.limit)? as i32;
        let mut error = if mapped & 1 == 0 {
            mapped >> 1
        } else {
            -((mapped + 1) >> 1)
        };
        if k == 0 && self.near == 0 && 2 * learnt.b <= -learnt.n {
            error = !error;
        }
        let learnt = &mut self.regular[place];
        learnt.b += error * (2 * self.near + 1);
        learnt.a += error.abs();
        if learnt.n == self.preset.reset {
            learnt.a >>= 1;
            learnt.b >>= 1;
            learnt.n >>= 1;
        }
        learnt.n += 1;
        if learnt.b <= -learnt.n {
            learnt.b = (learnt.b + learnt.n).max(1 - learnt.n);
            learnt.c = (learnt.c - 1).max(-128);
        } else if learnt.b > 0 {
            learnt.b = (learnt.b - learnt.n).min(0);
            learnt.c = (learnt.c + 1).min(127);
        }
        Ok(self.with_error(predicted, sign * error))
    }

    fn with_error(&self, predicted: i32, error: i32) -> i32 {
        let step = 2 * self.near + 1;
        let mut value = predicted + error * step;
        if value < -self.near {
            value += self.range * step;
        } else if value > self.preset.maximum + self.near {
            value -= self.range * step;
        }
        value.clamp(0, self.preset.maximum)
    }

    /// A limited Golomb code. Source: T.87 A.5.3.
    fn code(&mut self, k: u32, limit: u32) -> Result<u32, PixelError> {
        let longest = limit - self.range_bits - 1;
        let zeros = self.bits.zeros(limit)?;
        let value = if zeros >= longest {
            self.bits.take(self.range_bits) + 1
        } else {
            (zeros << k) + self.bits.take(k)
        };
        match value <= 2 * self.range.unsigned_abs() + 2 {
            true => Ok(value),
            false => Err(broken("a difference is out of range")),
        }
    }

    /// Source: T.87 A.7.1.
    fn run_length(&mut self, most: usize) -> Result<usize, PixelError> {
        let mut length = 0;
        while length < most && self.bits.take(1) == 1 {
            let step = 1 << J[self.run_index];
            if step <= most - length {
                self.run_index = (self.run_index + 1).min(31);
            }
            length += step.min(most - length);
        }
        if length < most {
            length += self.bits.take(J[self.run_index]) as usize;
        }
        match length <= most {
            true => Ok(length),
            false => Err(broken("a run is too long")),
        }
    }

    /// The sample that ends a run. Source: T.87 A.7.2.
    fn run_end(&mut self, a: i32, b: i32) -> Result<i32, PixelError> {
        if (a - b).abs() <= self.near {
            let error = self.run_error(1)?;
            return Ok(self.with_error(a, error));
        }
        let error = self.run_error(0)?;
        Ok(self.with_error(b, error * (b - a).signum()))
    }

    fn run_error(&mut self, kind: usize) -> Result<i32, PixelError> {
        let learnt = self.runs[kind];
        let target = learnt.a + (learnt.n >> 1) * learnt.kind;
        let mut k = 0;
        while (i64::from(learnt.n) << k) < i64::from(target) {
            k += 1;
        }
        let mapped = self.code(k, self.limit - J[self.run_index] - 1)? as i32;
        let value = mapped + learnt.kind;
        let odd = value & 1 == 1;
        let size = (value + (value & 1)) / 2;
        let error = if (k != 0 || 2 * learnt.negative >= learnt.n) == odd {
            -size
        } else {
            size
        };
        let learnt = &mut self.runs[kind];
        if error < 0 {
            learnt.negative += 1;
        }
        learnt.a += (mapped + 1 - learnt.kind) >> 1;
        if learnt.n == self.preset.reset {
            learnt.a >>= 1;
            learnt.n >>= 1;
            learnt.negative >>= 1;
        }
        learnt.n += 1;
        Ok(error)
    }
}

trait Sign {
    /// 1 for zero as well: there the error is added.
    fn signum_or_one(self) -> i32;
}

impl Sign for i32 {
    fn signum_or_one(self) -> i32 {
        if self < 0 { -1 } else { 1 }
    }
}
