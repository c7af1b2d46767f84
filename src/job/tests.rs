use super::*;

fn window(text: &str) -> Window {
    text.parse().unwrap()
}

fn at(text: &str) -> DateTime {
    let text = match text.contains(' ') {
        true => text.to_owned(),
        false => format!("2026-01-31 {text}"),
    };
    text.parse().unwrap()
}

#[test]
fn a_window_reads_two_times_of_the_day_and_nothing_else() {
    for (text, shown) in [
        ("21:00-24:00", "21:00-24:00"),
        ("22:00-06:30", "22:00-06:30"),
        ("00:00-24:00", "00:00-24:00"),
        (" 07:05 - 19:00 ", "07:05-19:00"),
        ("22:00-00:00", "22:00-24:00"),
    ] {
        assert_eq!(window(text).to_string(), shown, "{text}");
        assert_eq!(window(shown), window(text), "{text}");
    }
    assert_eq!(window("00:00-24:00"), Window::ALWAYS);
    for bad in [
        "",
        "21:00",
        "21-24",
        "21:00-24:01",
        "24:00-06:00",
        "21:60-22:00",
        "9:00-17:00",
        "09:00-09:00",
        "00:00-00:00",
        "-1:00-02:00",
        "+1:00-02:00",
        "21:00-24:00-25:00",
        "２１:00-24:00",
        "21:00:00-24:00:00",
        "always",
    ] {
        let error = bad.parse::<Window>().unwrap_err().to_string();
        assert!(
            error.starts_with("a window is HH:MM-HH:MM, such as 21:00-24:00"),
            "{error}"
        );
    }
}

#[test]
fn a_window_is_its_text_in_json() {
    let text = serde_json::to_string(&window("22:00-06:00")).unwrap();
    assert_eq!(text, r#""22:00-06:00""#);
    assert_eq!(
        serde_json::from_str::<Window>(&text).unwrap(),
        window("22:00-06:00")
    );
    assert!(serde_json::from_str::<Window>(r#""22:00""#).is_err());
}

#[test]
fn a_window_knows_how_long_it_is_open_and_when_it_opens_next() {
    let tomorrow = "2026-02-01 21:00";
    for (text, now, left, next) in [
        ("21:00-24:00", "20:59:59", 0, "21:00"),
        ("21:00-24:00", "21:00:00", 3 * 3600, tomorrow),
        ("21:00-24:00", "23:59:59", 1, tomorrow),
        ("21:00-24:00", "00:00:00", 0, "21:00"),
        ("22:00-06:00", "21:59:00", 0, "22:00"),
        ("22:00-06:00", "22:00:00", 8 * 3600, "2026-02-01 22:00"),
        ("22:00-06:00", "00:00:00", 6 * 3600, "22:00"),
        ("22:00-06:00", "05:59:59", 1, "22:00"),
        ("22:00-06:00", "06:00:00", 0, "22:00"),
        ("07:00-19:00", "12:00:00.5", 7 * 3600, "2026-02-01 07:00"),
        ("00:00-24:00", "00:00:00", 24 * 3600, "2026-02-01 00:00"),
        ("00:00-24:00", "23:59:59", 24 * 3600, "2026-02-01 00:00"),
        (
            "00:00-24:00",
            "9999-12-31 12:00",
            24 * 3600,
            "9999-12-31 00:00",
        ),
    ] {
        let (window, now) = (window(text), at(now));
        assert_eq!(window.seconds_left(now), left, "{text} at {now}");
        assert_eq!(window.contains(now), left > 0, "{text} at {now}");
        assert_eq!(window.next_start(now), at(next), "{text} at {now}");
    }
}

/// Method: pieces that each take `worked`, the sleeps added to the time that passes.
#[test]
fn work_stays_below_its_cap_on_average() {
    let ms = Duration::from_millis;
    for (cap, piece, worked, pieces, seconds) in [
        // Faster than the cap: the cap.
        (1_000_000, 100_000, ms(10), 100, 10.0),
        (1_000_000, 5_000_000, ms(10), 4, 20.0),
        // Slower than the cap: its own rate.
        (1_000_000, 100_000, ms(200), 100, 20.0),
        // No cap.
        (0, 1 << 30, ms(1), 1000, 1.0),
    ] {
        let mut pace = Pace::new(cap);
        let start = Instant::now();
        let mut now = start;
        for _ in 0..pieces {
            now += worked;
            now += pace.took(piece, now);
        }
        let took = (now - start).as_secs_f64();
        assert!((took - seconds).abs() <= 0.21, "{cap} {piece}: {took} s");
    }
}

#[test]
fn a_pause_is_made_up_for_by_two_seconds_at_most() {
    let start = Instant::now() + Duration::from_secs(3600);
    let mut pace = Pace::new(1000);
    assert_eq!(pace.took(500, start), Duration::from_millis(500));
    // Idle for a night: 2 s of work are free, the third is not.
    let morning = start + Duration::from_secs(8 * 3600);
    assert_eq!(pace.took(2000, morning), Duration::ZERO);
    assert_eq!(pace.took(1000, morning), Duration::from_secs(1));
    // A sleep of ten seconds that was broken off at once.
    assert_eq!(pace.took(9000, morning), Duration::from_secs(10));
    assert_eq!(pace.took(1000, morning), Duration::from_secs(3));
    // The cap of the day, and none.
    pace.set(100);
    assert_eq!(pace.took(100, morning), Duration::from_secs(3));
    pace.set(0);
    assert_eq!(pace.took(u64::MAX, morning), Duration::ZERO);
    pace.set(1);
    assert!(pace.took(u64::MAX, morning) >= COST_MAX);
}

#[test]
fn work_leaves_three_quarters_of_the_time_to_senders() {
    let ms = Duration::from_millis;
    for (last_received, worked, rest) in [
        (None, ms(100), ms(0)),
        (Some(ms(0)), ms(100), ms(300)),
        (Some(ms(1000)), ms(100), ms(300)),
        (Some(ms(1001)), ms(100), ms(0)),
        (Some(ms(10)), ms(900), ms(2000)),
        (Some(ms(10)), Duration::MAX, ms(2000)),
        (Some(ms(10)), ms(0), ms(0)),
    ] {
        assert_eq!(
            Politeness::rest(last_received, worked),
            rest,
            "{last_received:?}"
        );
    }
}

#[test]
fn progress_has_the_rate_of_the_last_minute() {
    let start = Instant::now();
    let second = |n: u64| start + Duration::from_secs(n);
    let mut progress = Progress::new(1000, 100_000, start);
    assert_eq!(progress.status(start).eta_seconds, None);
    // 100 bytes a second for two minutes, then 10.
    for n in 1..=120 {
        progress.add(1, 100, second(n));
    }
    let status = progress.status(second(120));
    assert_eq!((status.done_count, status.done_bytes), (120, 12_000));
    assert_eq!(
        (status.bytes_per_second, status.eta_seconds),
        (100, Some(880))
    );
    for n in 121..=180 {
        progress.add(1, 10, second(n));
    }
    let status = progress.status(second(180));
    assert_eq!(
        (status.bytes_per_second, status.eta_seconds),
        (10, Some(8740))
    );
    assert!(progress.measured.len() <= 62, "{}", progress.measured.len());
    // Nothing for a minute.
    let status = progress.status(second(240));
    assert_eq!((status.bytes_per_second, status.eta_seconds), (0, None));
    // A pause, of which the rate knows nothing.
    progress.resumed(second(10_000));
    progress.add(1, 400, second(10_002));
    assert_eq!(progress.status(second(10_002)).bytes_per_second, 200);
}

#[test]
fn progress_counts_instances_where_bytes_are_not_known_and_ends_at_zero() {
    let start = Instant::now();
    let later = start + Duration::from_secs(10);
    let mut progress = Progress::new(30, 0, start);
    progress.add(10, 0, later);
    assert_eq!(progress.status(later).eta_seconds, Some(20));
    progress.add(25, 5, later);
    assert_eq!(progress.status(later).eta_seconds, Some(0));
    // More pieces in a second than are measured count all the same.
    let mut progress = Progress::new(2, 2_000_000, start);
    for _ in 0..10_000 {
        progress.add(0, 100, start);
    }
    let status = progress.status(later);
    assert_eq!(
        (status.bytes_per_second, status.eta_seconds),
        (100_000, Some(10))
    );
    let text = serde_json::to_string(&status).unwrap();
    assert!(
        text.contains(r#""bytes_per_second":100000,"eta_seconds":10"#),
        "{text}"
    );
    assert_eq!(
        serde_json::from_str::<ProgressStatus>(&text).unwrap(),
        status
    );
}
