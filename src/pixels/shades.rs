//! What a sample looks like: a shade of grey by the values of interest (PS3.3 C.7.6.16.2.10, C.11.1, C.11.2), or a colour.

use crate::dicom::{Attributes, tags};

use super::Shape;

/// A windowed picture with less between its darkest and its brightest pixel shows nothing: the window is not meant for it.
const CONTRAST_MIN: u8 = 16;

/// Of the pixels so many are taken as outliers at either end where there is no window.
const OUTLIERS: f32 = 0.01;

/// Stored values into values that a window speaks of, and those into shades.
pub struct Shades {
    pub slope: f32,
    pub intercept: f32,
    /// Stored value of what is no image.
    pub padding: Option<i64>,
    window: Option<Window>,
    inverted: bool,
}

/// Source: PS3.3 C.11.2.1.2 and C.11.2.1.3.
#[derive(Clone, Copy)]
struct Window {
    center: f32,
    width: f32,
    function: Function,
}

#[derive(Clone, Copy)]
enum Function {
    Linear,
    Exact,
    Sigmoid,
}

impl Shades {
    pub fn of(attributes: &Attributes, shape: &Shape) -> Shades {
        let first = |tag| -> Option<f32> {
            let text = attributes.text(tag)?;
            let value = text.split('\\').next()?.trim().parse().ok()?;
            Some(value).filter(|value: &f32| value.is_finite())
        };
        let slope = first(tags::RESCALE_SLOPE).filter(|slope| *slope != 0.0);
        let function = match attributes.text(tags::VOILUT_FUNCTION).as_deref() {
            Some("LINEAR_EXACT") => Function::Exact,
            Some("SIGMOID") => Function::Sigmoid,
            _ => Function::Linear,
        };
        let window = first(tags::WINDOW_CENTER).zip(first(tags::WINDOW_WIDTH));
        let window = window.map(|(center, width)| Window {
            center,
            width,
            function,
        });
        let presented = attributes.text(tags::PRESENTATION_LUT_SHAPE);
        Shades {
            slope: slope.unwrap_or(1.0),
            intercept: first(tags::RESCALE_INTERCEPT).unwrap_or(0.0),
            padding: padding(attributes, shape.signed),
            // What a table makes of the stored values is not followed here; a window would be one of its values.
            window: window
                .filter(|window| window.width > 0.0)
                .filter(|_| !attributes.contains(tags::MODALITY_LUT_SEQUENCE)),
            inverted: match presented.as_deref() {
                Some(shape) => shape == "INVERSE",
                None => shape.photometric_interpretation == "MONOCHROME1",
            },
        }
    }

    /// Of values that are rescaled; NaN is what is no image, and stays black.
    pub fn grey(&self, values: &[f32]) -> Vec<u8> {
        let windowed = self.window.map(|window| self.shaded(values, window));
        match windowed.filter(|shades| has_contrast(shades)) {
            Some(shades) => shades,
            None => self.shaded(values, window_of(values)),
        }
    }

    fn shaded(&self, values: &[f32], window: Window) -> Vec<u8> {
        let shade = |value: &f32| {
            if value.is_nan() {
                return 0;
            }
            let bright = window.brightness(*value).clamp(0.0, 1.0);
            let bright = if self.inverted { 1.0 - bright } else { bright };
            (bright * 255.0).round() as u8
        };
        values.iter().map(shade).collect()
    }
}

fn padding(attributes: &Attributes, signed: bool) -> Option<i64> {
    let raw = attributes.raw(tags::PIXEL_PADDING_VALUE)?;
    let two = [*raw.first()?, *raw.get(1)?];
    Some(match signed {
        true => i64::from(i16::from_le_bytes(two)),
        false => i64::from(u16::from_le_bytes(two)),
    })
}

fn has_contrast(shades: &[u8]) -> bool {
    let (least, most) = (shades.iter().min(), shades.iter().max());
    least
        .zip(most)
        .is_some_and(|(least, most)| most - least >= CONTRAST_MIN)
}

/// From the darkest to the brightest, but for outliers.
fn window_of(values: &[f32]) -> Window {
    let mut sorted: Vec<f32> = values.iter().copied().filter(|v| !v.is_nan()).collect();
    sorted.sort_by(f32::total_cmp);
    let last = sorted.len().saturating_sub(1);
    let at = |place: usize| sorted.get(place).copied().unwrap_or(0.0);
    let outliers = (last as f32 * OUTLIERS) as usize;
    let (mut low, mut high) = (at(outliers), at(last - outliers));
    if low == high {
        (low, high) = (at(0), at(last));
    }
    Window {
        center: low / 2.0 + high / 2.0,
        width: (high - low).max(f32::MIN_POSITIVE),
        function: Function::Exact,
    }
}

impl Window {
    /// 0 is black, 1 is white; beyond them all is as at them.
    fn brightness(self, value: f32) -> f32 {
        let Window { center, width, .. } = self;
        match self.function {
            Function::Linear if width > 1.0 => (value - (center - 0.5)) / (width - 1.0) + 0.5,
            Function::Linear => f32::from(u8::from(value > center - 0.5)),
            Function::Exact => (value - center) / width + 0.5,
            Function::Sigmoid => 1.0 / (1.0 + (-4.0 * (value - center) / width).exp()),
        }
    }
}

/// A palette (PS3.3 C.7.6.3.1.5 and .6): which colour a stored value stands for.
pub struct Palette {
    first: i64,
    tables: [Vec<u8>; 3],
}

impl Palette {
    /// `None`: there is none that can be read, or it is segmented.
    pub fn of(attributes: &Attributes, signed: bool) -> Option<Palette> {
        let one = |descriptor, data| -> Option<(i64, Vec<u8>)> {
            let raw = attributes.raw(descriptor)?;
            let number = |at: usize| Some(u16::from_le_bytes([*raw.get(at)?, *raw.get(at + 1)?]));
            let count = match number(0)? {
                0 => 1 << 16,
                count => usize::from(count),
            };
            let first = match signed {
                true => i64::from(number(2)? as i16),
                false => i64::from(number(2)?),
            };
            let data = attributes.raw(data)?;
            if data.len() < 2 * count {
                return (data.len() >= count).then(|| (first, data[..count].to_vec()));
            }
            let words = data[..2 * count].chunks_exact(2);
            // Some write eight bits into sixteen, without moving them up.
            let narrow = words.clone().all(|two| two[1] == 0);
            let entries = words.map(|two| if narrow { two[0] } else { two[1] });
            Some((first, entries.collect()))
        };
        let (first, red) = one(
            tags::RED_PALETTE_COLOR_LOOKUP_TABLE_DESCRIPTOR,
            tags::RED_PALETTE_COLOR_LOOKUP_TABLE_DATA,
        )?;
        let (_, green) = one(
            tags::GREEN_PALETTE_COLOR_LOOKUP_TABLE_DESCRIPTOR,
            tags::GREEN_PALETTE_COLOR_LOOKUP_TABLE_DATA,
        )?;
        let (_, blue) = one(
            tags::BLUE_PALETTE_COLOR_LOOKUP_TABLE_DESCRIPTOR,
            tags::BLUE_PALETTE_COLOR_LOOKUP_TABLE_DATA,
        )?;
        Some(Palette {
            first,
            tables: [red, green, blue],
        })
    }

    pub fn color(&self, value: i64) -> [u8; 3] {
        let place = usize::try_from(value - self.first).unwrap_or(0);
        self.tables.each_ref().map(|table| {
            let last = table.len().saturating_sub(1);
            table.get(place.min(last)).copied().unwrap_or(0)
        })
    }
}

/// Full range (PS3.3 C.7.6.3.1.2).
pub fn rgb_of_ybr([y, cb, cr]: [u8; 3]) -> [u8; 3] {
    let (y, cb, cr) = (f32::from(y), f32::from(cb) - 128.0, f32::from(cr) - 128.0);
    [
        y + 1.402 * cr,
        y - 0.344_136 * cb - 0.714_136 * cr,
        y + 1.772 * cb,
    ]
    .map(|value| value.round().clamp(0.0, 255.0) as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shades(window: Option<(f32, f32, Function)>, inverted: bool) -> Shades {
        Shades {
            slope: 1.0,
            intercept: 0.0,
            padding: None,
            window: window.map(|(center, width, function)| Window {
                center,
                width,
                function,
            }),
            inverted,
        }
    }

    #[test]
    fn a_window_is_drawn_as_the_standard_says() {
        let values = [-1000.0, 0.0, 40.0, 80.0, 1000.0];
        let linear = shades(Some((40.0, 81.0, Function::Linear)), false);
        assert_eq!(linear.grey(&values), [0, 2, 129, 255, 255]);
        let exact = shades(Some((40.0, 80.0, Function::Exact)), false);
        assert_eq!(exact.grey(&values), [0, 0, 128, 255, 255]);
        let sigmoid = shades(Some((40.0, 80.0, Function::Sigmoid)), false);
        assert_eq!(sigmoid.grey(&values), [0, 30, 128, 225, 255]);
        let inverted = shades(Some((40.0, 80.0, Function::Exact)), true);
        assert_eq!(inverted.grey(&values), [255, 255, 128, 0, 0]);
    }

    #[test]
    fn without_a_window_that_fits_the_values_make_one() {
        let values: Vec<f32> = (0..1000).map(|v| v as f32).collect();
        for window in [None, Some((1e6, 10.0, Function::Linear))] {
            let grey = shades(window, false).grey(&values);
            assert_eq!((grey[0], grey[500], grey[999]), (0, 128, 255));
        }
        assert_eq!(shades(None, false).grey(&[7.0, 7.0]), [128, 128]);
        assert_eq!(shades(None, true).grey(&[f32::NAN, f32::NAN]), [0, 0]);
        assert!(shades(None, false).grey(&[]).is_empty());
    }

    #[test]
    fn the_primary_colours_come_back_from_luminance() {
        assert_eq!(rgb_of_ybr([76, 85, 255]), [254, 0, 0]);
        assert_eq!(rgb_of_ybr([128, 128, 128]), [128, 128, 128]);
    }
}
