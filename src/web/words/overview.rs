pub const WORDS: &[(&str, &str)] = &[];
