//! Bytes and durations as people read them.

/// Decimal, as printed on the disk: `3.12 TB`.
pub fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["kB", "MB", "GB", "TB", "PB"];
    if count < 1_000 {
        return format!("{count} B");
    }
    let mut value = count as f64 / 1_000.0;
    let mut unit = 0;
    while value >= 999.995 && unit + 1 < UNITS.len() {
        value /= 1_000.0;
        unit += 1;
    }
    format!("{value:.2} {}", UNITS[unit])
}

/// A duration in words: `45 s`, `12 min`, `3 h 20 min`, `2 days 4 h`.
pub fn seconds(count: u64) -> String {
    match count {
        0..120 => format!("{count} s"),
        120..7_200 => format!("{} min", count / 60),
        7_200..172_800 => format!("{} h {} min", count / 3_600, count % 3_600 / 60),
        _ => format!("{} days {} h", count / 86_400, count % 86_400 / 3_600),
    }
}

/// With spaces between thousands: `1 204 118`.
pub fn grouped(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            // Not broken at the end of a line.
            text.push('\u{a0}');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_printed_as_on_the_disk() {
        for (count, text) in [
            (0, "0 B"),
            (999, "999 B"),
            (1_000, "1.00 kB"),
            (999_999, "1.00 MB"),
            (3_120_000_000_000, "3.12 TB"),
        ] {
            assert_eq!(bytes(count), text);
        }
    }

    #[test]
    fn thousands_are_apart() {
        for (count, text) in [
            (0, "0"),
            (999, "999"),
            (1_000, "1 000"),
            (1_204_118, "1 204 118"),
        ] {
            assert_eq!(grouped(count), text.replace(' ', "\u{a0}"));
        }
    }
}
