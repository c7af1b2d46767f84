//! Wild card matching (PS3.4 C.2.2.2.4) over [folded](super::key::fold) texts: `*` any number of characters, `?` one.

use super::key;

/// Longest pattern that can match, in characters: values are kept up to 1024 bytes.
const PATTERN_CHARS_MAX: usize = 1_024;

/// Most `^` in a component group of a name: five components (PS3.5 6.2.1.1).
const CARETS_MAX: usize = 4;

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Pattern {
    tokens: Vec<Token>,
    /// Characters of all tokens.
    length: usize,
    carets: usize,
}

#[derive(Debug, Clone, PartialEq)]
enum Token {
    /// Never empty.
    Text(String),
    One,
    Many,
}

impl Pattern {
    pub fn new(text: &str) -> Pattern {
        let mut tokens = Vec::new();
        let mut literal = String::new();
        let flush = |literal: &mut String, tokens: &mut Vec<Token>| {
            // Folded after the wildcards are found: a full-width '＊' in a name is a letter, not a wildcard.
            let folded = key::fold_untrimmed(literal);
            if !folded.is_empty() {
                tokens.push(Token::Text(folded));
            }
            literal.clear();
        };
        for c in text.chars() {
            match c {
                '*' | '?' => {
                    flush(&mut literal, &mut tokens);
                    match c {
                        '?' => tokens.push(Token::One),
                        _ if tokens.last() == Some(&Token::Many) => {}
                        _ => tokens.push(Token::Many),
                    }
                }
                _ => literal.push(c),
            }
        }
        flush(&mut literal, &mut tokens);
        Pattern::of(tokens)
    }

    fn of(mut tokens: Vec<Token>) -> Pattern {
        // Values have no spaces at their ends; those of a key may have stood behind a character that was folded away.
        if let Some(Token::Text(text)) = tokens.first_mut() {
            *text = text.trim_start().to_owned();
        }
        if let Some(Token::Text(text)) = tokens.last_mut() {
            *text = text.trim_end().to_owned();
        }
        tokens.retain(|token| !matches!(token, Token::Text(text) if text.is_empty()));
        let mut pattern = Pattern {
            tokens,
            length: 0,
            carets: 0,
        };
        for token in &pattern.tokens {
            match token {
                Token::Text(text) => {
                    pattern.length += text.chars().count();
                    pattern.carets += text.matches('^').count();
                }
                Token::One | Token::Many => pattern.length += 1,
            }
        }
        pattern
    }

    /// The same, and anything after it.
    pub fn open(mut self) -> Pattern {
        if self.tokens.last() != Some(&Token::Many) {
            self.tokens.push(Token::Many);
        }
        Pattern::of(self.tokens)
    }

    pub fn is_universal(&self) -> bool {
        self.tokens == [Token::Many]
    }

    /// Characters that are no wildcards: how much it tells.
    pub fn letters(&self) -> usize {
        let wild = |token: &&Token| !matches!(token, Token::Text(_));
        self.length - self.tokens.iter().filter(wild).count()
    }

    /// The longest text that stands in every match, also in a name that [`Pattern::matches_name`].
    pub fn longest_piece(&self) -> &str {
        let pieces = self.tokens.iter().map(|token| match token {
            // At the end of a name they may be missing.
            Token::Text(text) => text.trim_end_matches('^'),
            Token::One | Token::Many => "",
        });
        pieces.max_by_key(|piece| piece.len()).unwrap_or_default()
    }

    /// What every match begins with, and whether that is all of it.
    pub fn beginning(&self) -> (&str, bool) {
        match self.tokens.first() {
            Some(Token::Text(text)) => (text, self.tokens.len() == 1),
            _ => ("", self.tokens.is_empty()),
        }
    }

    /// As [`Pattern::matches`]; components missing at the end of the name count as empty ones.
    pub fn matches_name(&self, folded: &str) -> bool {
        if self.matches(folded) {
            return true;
        }
        let wanted = self.carets.min(CARETS_MAX);
        if wanted == 0 {
            return false;
        }
        let has = folded.matches('^').count();
        (1..=wanted.saturating_sub(has))
            .any(|more| self.matches(&format!("{folded}{}", "^".repeat(more))))
    }

    /// Time at most pattern × value, whatever is in them.
    pub fn matches(&self, folded: &str) -> bool {
        if self.length > PATTERN_CHARS_MAX {
            return false;
        }
        let (mut at, mut token) = (0, 0);
        // Where to go on when the text after the last `*` does not fit: one more character for the star.
        let mut retry = None;
        loop {
            let rest = &folded[at..];
            let taken = match self.tokens.get(token) {
                Some(Token::Many) if token + 1 == self.tokens.len() => return true,
                Some(Token::Many) => {
                    retry = Some((at, token + 1));
                    token += 1;
                    continue;
                }
                Some(Token::One) => first_length(rest),
                Some(Token::Text(text)) => rest.starts_with(text.as_str()).then_some(text.len()),
                None if rest.is_empty() => return true,
                None => None,
            };
            if let Some(length) = taken {
                at += length;
                token += 1;
                continue;
            }
            let Some((star_at, after)) = retry else {
                return false;
            };
            let Some(length) = first_length(&folded[star_at..]) else {
                return false;
            };
            retry = Some((star_at + length, after));
            (at, token) = (star_at + length, after);
        }
    }
}

/// Bytes of the first character.
fn first_length(text: &str) -> Option<usize> {
    text.chars().next().map(char::len_utf8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hostile_pattern_costs_no_more_than_pattern_times_value() {
        let pattern = Pattern::new(&"*a".repeat(500));
        assert!(!pattern.matches(&format!("{}b", "a".repeat(1000))));
        assert!(!Pattern::new(&"*a".repeat(100_000)).matches("aaa"));
    }

    #[test]
    fn wildcards_stand_for_characters_not_bytes() {
        assert!(Pattern::new("山?太*").matches("山田太郎"));
        assert!(!Pattern::new("山??太*").matches("山田太郎"));
        assert!(Pattern::new("*?郎").matches("山田太郎"));
        assert!(!Pattern::new("*????郎").matches("山田太郎"));
        assert!(Pattern::new("").matches(""));
        assert!(!Pattern::new("").matches("a"));
    }
}
