//! From the coefficients of JPEG to samples (ITU-T T.81 A.3.3), and components to the size of the image.

use super::jpeg::NATURAL;

pub struct Plane {
    pub width: usize,
    pub samples: Vec<u16>,
}

/// Fractions have so many bits.
const BITS: u32 = 13;
/// Between the passes.
const PASS_BITS: u32 = 2;

/// The cosines of Loeffler, Ligtenberg and Moschytz (1989), in 8192ths.
const C_0_298: i64 = 2446;
const C_0_390: i64 = 3196;
const C_0_541: i64 = 4433;
const C_0_765: i64 = 6270;
const C_0_899: i64 = 7373;
const C_1_175: i64 = 9633;
const C_1_501: i64 = 12299;
const C_1_847: i64 = 15137;
const C_1_961: i64 = 16069;
const C_2_053: i64 = 16819;
const C_2_562: i64 = 20995;
const C_3_072: i64 = 25172;

/// One dimension, eight values; the result is 8192 times too large.
fn pass(v: [i64; 8]) -> [i64; 8] {
    let z = (v[2] + v[6]) * C_0_541;
    let even2 = z - v[6] * C_1_847;
    let even3 = z + v[2] * C_0_765;
    let even0 = (v[0] + v[4]) << BITS;
    let even1 = (v[0] - v[4]) << BITS;
    let (t10, t13) = (even0 + even3, even0 - even3);
    let (t11, t12) = (even1 + even2, even1 - even2);

    let (o0, o1, o2, o3) = (v[7], v[5], v[3], v[1]);
    let z5 = (o0 + o2 + o1 + o3) * C_1_175;
    let z1 = -(o0 + o3) * C_0_899;
    let z2 = -(o1 + o2) * C_2_562;
    let z3 = -(o0 + o2) * C_1_961 + z5;
    let z4 = -(o1 + o3) * C_0_390 + z5;
    let o0 = o0 * C_0_298 + z1 + z3;
    let o1 = o1 * C_2_053 + z2 + z4;
    let o2 = o2 * C_3_072 + z2 + z3;
    let o3 = o3 * C_1_501 + z1 + z4;
    [
        t10 + o3,
        t11 + o2,
        t12 + o1,
        t13 + o0,
        t13 - o0,
        t12 - o1,
        t11 - o2,
        t10 - o3,
    ]
}

/// One block, in zigzag order, to its place.
pub fn invert(
    block: &[i32; 64],
    table: &[u16; 64],
    precision: u32,
    plane: &mut Plane,
    x: usize,
    y: usize,
) {
    // What no image has must not overflow.
    let most = 1i64 << (precision + 12);
    let mut values = [0i64; 64];
    for at in 0..64 {
        let value = i64::from(block[at]) * i64::from(table[at]);
        values[usize::from(NATURAL[at])] = value.clamp(-most, most);
    }
    let descale = |value: i64, bits: u32| (value + (1 << (bits - 1))) >> bits;
    for column in 0..8 {
        let input = std::array::from_fn(|row| values[row * 8 + column]);
        for (row, value) in pass(input).into_iter().enumerate() {
            values[row * 8 + column] = descale(value, BITS - PASS_BITS);
        }
    }
    let (middle, top) = (1i64 << (precision - 1), (1i64 << precision) - 1);
    for row in 0..8 {
        let input = std::array::from_fn(|column| values[row * 8 + column]);
        let line = &mut plane.samples[(y + row) * plane.width + x..][..8];
        for (sample, value) in line.iter_mut().zip(pass(input)) {
            let value = descale(value, BITS + PASS_BITS + 3) + middle;
            *sample = value.clamp(0, top) as u16;
        }
    }
}

/// A component of the size of the image. Of one that was halved, the values between are three quarters of the nearer
/// and one of the farther sample, as other decoders have it; else each is repeated.
pub fn upsampled(plane: &Plane, factors: (usize, usize), width: usize, height: usize) -> Vec<u16> {
    let (fx, fy) = factors;
    let (real_width, real_height) = (width.div_ceil(fx), height.div_ceil(fy));
    let mut out = Vec::with_capacity(width * height);
    let smooth = fx == 2 && fy <= 2 && real_width > 2;
    for y in 0..height {
        let near = &plane.samples[y / fy * plane.width..][..plane.width];
        if !smooth {
            out.extend((0..width).map(|x| near[x / fx]));
            continue;
        }
        // With both halved the line is between two, of weights 3 and 1.
        let other = match (fy, y % 2) {
            (2, 0) => (y / 2).saturating_sub(1),
            (2, _) => (y / 2 + 1).min(real_height - 1),
            _ => y,
        };
        let other = &plane.samples[other * plane.width..][..plane.width];
        let (low, high) = if fy == 2 { (8, 7) } else { (1, 2) };
        let column = |x: usize| match fy {
            2 => 3 * u32::from(near[x]) + u32::from(other[x]),
            _ => u32::from(near[x]),
        };
        let shift = if fy == 2 { 4 } else { 2 };
        out.extend((0..width).map(|x| {
            let at = x / 2;
            let (far, round) = match x % 2 {
                0 => (at.checked_sub(1), low),
                _ => (Some(at + 1).filter(|far| *far < real_width), high),
            };
            match far {
                Some(far) => ((3 * column(at) + column(far) + round) >> shift) as u16,
                None => ((column(at) * 4 + if fy == 2 { round } else { 0 }) >> shift) as u16,
            }
        }));
    }
    out
}
