//! Python list literals of ids and strings, as pandas writes them into CSV cells.

/// Reads `[1, 2]` or `['a', "it's", 'b\'c']` into its elements, or says at which character it stops being one.
pub(super) fn parse(text: &str) -> Result<Vec<String>, String> {
    let mut chars = text.char_indices().peekable();
    let mut elements = Vec::new();
    let skip_spaces = |chars: &mut std::iter::Peekable<std::str::CharIndices<'_>>| {
        while chars.next_if(|(_, c)| c.is_ascii_whitespace()).is_some() {}
    };
    skip_spaces(&mut chars);
    expect(&mut chars, '[')?;
    loop {
        skip_spaces(&mut chars);
        match chars.peek().copied() {
            Some((_, ']')) => break,
            Some((_, quote @ ('\'' | '"'))) => {
                chars.next();
                elements.push(quoted(&mut chars, quote)?);
            }
            Some(_) => {
                let mut bare = String::new();
                while let Some((_, c)) = chars.next_if(|(_, c)| c.is_ascii_alphanumeric() || "+-._".contains(*c)) {
                    bare.push(c);
                }
                if bare.is_empty() {
                    return Err(unexpected(chars.peek()));
                }
                elements.push(bare);
            }
            None => return Err(unexpected(None)),
        }
        skip_spaces(&mut chars);
        if chars.next_if(|(_, c)| *c == ',').is_none() {
            break;
        }
    }
    expect(&mut chars, ']')?;
    skip_spaces(&mut chars);
    match chars.peek() {
        None => Ok(elements),
        found => Err(unexpected(found)),
    }
}

type Chars<'a> = std::iter::Peekable<std::str::CharIndices<'a>>;

fn expect(chars: &mut Chars<'_>, wanted: char) -> Result<(), String> {
    match chars.next_if(|(_, c)| *c == wanted) {
        Some(_) => Ok(()),
        None => Err(format!("{}, expected `{wanted}`", unexpected(chars.peek()))),
    }
}

fn unexpected(found: Option<&(usize, char)>) -> String {
    match found {
        Some((at, c)) => format!("`{c}` at byte {at} of the list"),
        None => "the list does not end".to_owned(),
    }
}

/// The rest of a string literal after its opening quote.
fn quoted(chars: &mut Chars<'_>, quote: char) -> Result<String, String> {
    let mut text = String::new();
    while let Some((at, c)) = chars.next() {
        if c == quote {
            return Ok(text);
        }
        if c != '\\' {
            text.push(c);
            continue;
        }
        let (_, escaped) = chars.next().ok_or_else(|| unexpected(None))?;
        match escaped {
            'n' => text.push('\n'),
            'r' => text.push('\r'),
            't' => text.push('\t'),
            '\\' | '\'' | '"' => text.push(escaped),
            'x' | 'u' | 'U' => {
                let digits = match escaped {
                    'x' => 2,
                    'u' => 4,
                    _ => 8,
                };
                let code: String = chars.by_ref().take(digits).map(|(_, c)| c).collect();
                let decoded = u32::from_str_radix(&code, 16).ok().and_then(char::from_u32);
                text.push(decoded.ok_or_else(|| format!("`\\{escaped}{code}` at byte {at} is not a character"))?);
            }
            // Python keeps the backslash of an escape it does not know.
            other => text.extend(['\\', other]),
        }
    }
    Err(unexpected(None))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_numbers_and_of_strings_are_read() {
        assert_eq!(parse("[1914, 1170]").unwrap(), ["1914", "1170"]);
        assert_eq!(parse(" [ ] ").unwrap(), Vec::<String>::new());
        assert_eq!(parse("[7,]").unwrap(), ["7"]);
        assert_eq!(parse("['B01', 'B02']").unwrap(), ["B01", "B02"]);
    }

    #[test]
    fn quotes_and_backslashes_inside_titles_are_kept() {
        let text = r#"['Tony Hawk\'s "Pro" [5], ed.', "it's", 'a\\b', 'caf\xe9 \u2605', '\d']"#;
        assert_eq!(parse(text).unwrap(), ["Tony Hawk's \"Pro\" [5], ed.", "it's", "a\\b", "caf\u{e9} \u{2605}", "\\d"]);
    }

    #[test]
    fn what_is_not_a_list_is_refused_with_its_place() {
        assert_eq!(parse("[1, 2").unwrap_err(), "the list does not end, expected `]`");
        assert_eq!(parse("1").unwrap_err(), "`1` at byte 0 of the list, expected `[`");
        assert_eq!(parse("[1] x").unwrap_err(), "`x` at byte 4 of the list");
        assert_eq!(parse("['a").unwrap_err(), "the list does not end");
        assert!(parse("[(1)]").is_err());
    }
}
