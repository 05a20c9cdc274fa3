//! The secrets that callers show where there are no certificates, or besides them.

use super::role::Role;
use http::HeaderValue;
use std::fmt;
use subtle::{Choice, ConstantTimeEq};

/// Fewest characters of a token: guessing must be hopeless.
const MIN_TOKEN_CHARACTERS: usize = 16;

/// A secret shared by all processes that may do the same. Never printed.
#[derive(Clone)]
pub struct Token(HeaderValue);

/// Why a text is not a token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Too easy to guess.
    #[error("a token has at least {MIN_TOKEN_CHARACTERS} characters, got {got}")]
    Short {
        /// Number of characters.
        got: usize,
    },
    /// Cannot be sent in a header.
    #[error("a token consists of visible ASCII characters")]
    Characters,
}

impl Token {
    /// Takes the token from the text of a file or variable; white space around it is not part of it.
    ///
    /// # Errors
    /// [`TokenError`]; the text is not repeated in it.
    pub fn new(text: &str) -> Result<Self, TokenError> {
        let text = text.trim();
        if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(TokenError::Characters);
        }
        if text.len() < MIN_TOKEN_CHARACTERS {
            return Err(TokenError::Short { got: text.len() });
        }
        let mut value = HeaderValue::from_str(&format!("Bearer {text}")).map_err(|_| TokenError::Characters)?;
        value.set_sensitive(true);
        Ok(Self(value))
    }

    pub(crate) fn header(&self) -> HeaderValue {
        self.0.clone()
    }

    /// Whether `shown`, the value of an `authorization` header, is this token; compares in a time that does not depend on where
    /// the two differ.
    pub fn is(&self, shown: &[u8]) -> bool {
        self.compare(shown).into()
    }

    fn compare(&self, shown: &[u8]) -> Choice {
        self.0.as_bytes().ct_eq(shown)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Token(..)")
    }
}

/// The token of each role that calls others; they may all be the same.
#[derive(Debug, Clone)]
pub struct Tokens {
    worker: Token,
    learner: Option<Token>,
    watcher: Option<Token>,
}

impl Tokens {
    /// One token for everybody, until a role is given its own.
    pub fn common(token: Token) -> Self {
        Self { worker: token, learner: None, watcher: None }
    }

    /// The learner's own token, which is also the operator's, if there is one; the common one does not do for it then.
    #[must_use]
    pub fn with_learner(self, token: Option<Token>) -> Self {
        Self { learner: token, ..self }
    }

    /// The watchers' own token, if there is one.
    #[must_use]
    pub fn with_watcher(self, token: Option<Token>) -> Self {
        Self { watcher: token, ..self }
    }

    /// What a process of `role` shows; a coordinator, which calls nobody, the common one.
    pub fn of(&self, role: Role) -> &Token {
        let own = match role {
            Role::Coordinator | Role::Worker => None,
            // Whoever may train may also say with what.
            Role::Learner | Role::Operator => self.learner.as_ref(),
            Role::Watcher => self.watcher.as_ref(),
        };
        own.unwrap_or(&self.worker)
    }

    /// The roles that `shown` is a token of; takes the same time for every text of the same length.
    pub(super) fn roles(&self, shown: &[u8]) -> Vec<Role> {
        let callers = [Role::Learner, Role::Worker, Role::Watcher, Role::Operator];
        let are = callers.map(|role| self.of(role).compare(shown));
        callers.into_iter().zip(are).filter(|(_, is)| bool::from(*is)).map(|(role, _)| role).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::channel::Pass;

    #[test]
    fn a_token_that_is_short_or_not_plain_text_is_refused_and_none_is_ever_printed() {
        assert_eq!(Token::new(" short\n").unwrap_err(), TokenError::Short { got: 5 });
        assert_eq!(Token::new("0123456789abcde\u{e9}").unwrap_err(), TokenError::Characters);
        let secret = "0123456789abcdef";
        let token = Token::new(&format!("{secret}\n")).unwrap();
        assert!(token.is(format!("Bearer {secret}").as_bytes()));
        assert!(!token.is(secret.as_bytes()) && !token.is(b"Bearer 0123456789abcdeg") && !token.is(b""));
        let printed = format!("{token:?} {:?}", Pass::default().with_token(&token));
        assert!(!printed.contains(secret), "{printed}");
    }

    #[test]
    fn a_role_with_a_token_of_its_own_is_not_let_in_with_the_common_one() {
        let token = |letter: &str| Token::new(&letter.repeat(16)).unwrap();
        let shown = |letter: &str| format!("Bearer {}", letter.repeat(16)).into_bytes();
        let all = Tokens::common(token("c"));
        assert_eq!(all.roles(&shown("c")), [Role::Learner, Role::Worker, Role::Watcher, Role::Operator]);
        assert_eq!(all.roles(&shown("x")), []);
        let own = all.with_learner(Some(token("l"))).with_watcher(Some(token("w")));
        assert_eq!(own.roles(&shown("c")), [Role::Worker]);
        assert_eq!(own.roles(&shown("l")), [Role::Learner, Role::Operator]);
        assert_eq!(own.roles(&shown("w")), [Role::Watcher]);
    }
}
