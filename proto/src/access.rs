//! Who may come in: what a server asks of every caller before it reads a message.

use crate::{
    channel::{RUN, WORKER},
    transport,
};
use http::HeaderValue;
use riser_core::{digest::Digest, ids::WorkerId};
use std::{fmt, net::SocketAddr};
use subtle::ConstantTimeEq;
use tonic::{
    Request, Status,
    metadata::MetadataMap,
    service::{Interceptor, interceptor::InterceptedService},
    transport::{Server, ServerTlsConfig},
};

/// Fewest characters of a join token: guessing must be hopeless.
const MIN_TOKEN_CHARACTERS: usize = 16;

/// A secret shared by all processes of a run. Never printed.
#[derive(Clone)]
pub struct Token(HeaderValue);

/// Why a text is not a token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Too easy to guess.
    #[error("a join token has at least {MIN_TOKEN_CHARACTERS} characters, got {got}")]
    Short {
        /// Number of characters.
        got: usize,
    },
    /// Cannot be sent in a header.
    #[error("a join token consists of visible ASCII characters")]
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

    /// Compares in a time that does not depend on where the two differ.
    fn is(&self, shown: &[u8]) -> bool {
        self.0.as_bytes().ct_eq(shown).into()
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Token(..)")
    }
}

/// What a server asks of its callers; by default nothing, which is for servers that only their own process can reach.
#[derive(Debug, Clone, Default)]
pub struct Access {
    /// Certificate of the server and whose clients it believes.
    pub tls: Option<ServerTlsConfig>,
    /// Secret that every caller must know.
    pub token: Option<Token>,
    /// The run; callers that name another one are refused.
    pub run: Option<Digest>,
}

impl Access {
    /// A server that asks for certificates, if these are.
    ///
    /// # Errors
    /// If the certificates cannot be used.
    pub fn server(&self) -> Result<Server, tonic::transport::Error> {
        match &self.tls {
            Some(tls) => transport::server().tls_config(tls.clone()),
            None => Ok(transport::server()),
        }
    }

    /// Puts the door in front of a service.
    pub fn guard<S>(&self, service: S) -> InterceptedService<S, Door> {
        InterceptedService::new(service, Door { token: self.token.clone(), run: self.run })
    }
}

/// Checks the pass of every call.
#[derive(Debug, Clone)]
pub struct Door {
    token: Option<Token>,
    run: Option<Digest>,
}

impl Interceptor for Door {
    fn call(&mut self, request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(token) = &self.token {
            let shown = request.metadata().get("authorization");
            let shown = shown.ok_or_else(|| Status::unauthenticated("this run asks for a join token"))?;
            if !token.is(shown.as_encoded_bytes()) {
                return Err(Status::unauthenticated("the join token is not the one of this run"));
            }
        }
        if let (Some(own), Some(shown)) = (self.run, request.metadata().get(RUN)) {
            let shown = shown.to_str().ok().and_then(|text| text.parse::<Digest>().ok());
            let shown = shown.ok_or_else(|| Status::invalid_argument(format!("`{RUN}` is not a digest")))?;
            if shown != own {
                let message = format!("caller belongs to run {}, this is run {}", shown.short(), own.short());
                return Err(Status::failed_precondition(message));
            }
        }
        Ok(request)
    }
}

/// Who called, as far as it said so; for logs and for refusing whoever misbehaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caller {
    /// The number of the worker.
    pub worker: Option<WorkerId>,
    /// Where the connection comes from; `None` inside one process.
    pub address: Option<SocketAddr>,
}

impl Caller {
    /// Whoever sent `request`.
    pub fn of<T>(request: &Request<T>) -> Self {
        Self { worker: worker(request.metadata()), address: request.remote_addr() }
    }
}

fn worker(metadata: &MetadataMap) -> Option<WorkerId> {
    metadata.get(WORKER)?.to_str().ok()?.parse().ok().map(WorkerId)
}

impl fmt::Display for Caller {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.worker {
            Some(worker) => write!(formatter, "worker {worker}")?,
            None => write!(formatter, "unnamed caller")?,
        }
        match self.address {
            Some(address) => write!(formatter, " at {address}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::channel::Pass;
    use tonic::Extensions;

    const SECRET: &str = "0123456789abcdef";

    fn knock(access: &Access, headers: &[(&'static str, &str)]) -> Result<(), tonic::Code> {
        let mut metadata = MetadataMap::new();
        for (name, value) in headers {
            metadata.insert(*name, value.parse().unwrap());
        }
        let request = Request::from_parts(metadata, Extensions::default(), ());
        let mut door = Door { token: access.token.clone(), run: access.run };
        door.call(request).map(|_| ()).map_err(|status| status.code())
    }

    #[test]
    fn only_the_right_token_opens_the_door() {
        let access = Access { token: Some(Token::new(SECRET).unwrap()), ..Access::default() };
        let right = format!("Bearer {SECRET}");
        assert_eq!(knock(&access, &[("authorization", &right)]), Ok(()));
        for wrong in [&[("authorization", "Bearer 0123456789abcdeg")][..], &[("authorization", SECRET)], &[]] {
            assert_eq!(knock(&access, wrong), Err(tonic::Code::Unauthenticated));
        }
    }

    #[test]
    fn a_caller_of_another_run_is_refused_and_one_that_names_no_run_is_not() {
        let own = Digest::of(b"own");
        let access = Access { run: Some(own), ..Access::default() };
        assert_eq!(knock(&access, &[(RUN, &own.to_string())]), Ok(()));
        assert_eq!(knock(&access, &[]), Ok(()));
        let other = Digest::of(b"other").to_string();
        assert_eq!(knock(&access, &[(RUN, &other)]), Err(tonic::Code::FailedPrecondition));
        assert_eq!(knock(&access, &[(RUN, "run")]), Err(tonic::Code::InvalidArgument));
    }

    #[test]
    fn a_token_that_is_short_or_not_plain_text_is_refused_and_none_is_ever_printed() {
        assert_eq!(Token::new(" short\n").unwrap_err(), TokenError::Short { got: 5 });
        assert_eq!(Token::new("0123456789abcde\u{e9}").unwrap_err(), TokenError::Characters);
        let token = Token::new(&format!("{SECRET}\n")).unwrap();
        let access = Access { token: Some(token.clone()), ..Access::default() };
        assert_eq!(knock(&access, &[("authorization", &format!("Bearer {SECRET}"))]), Ok(()));
        let printed = format!("{token:?} {:?}", Pass::default().with_token(&token));
        assert!(!printed.contains(SECRET), "{printed}");
    }
}
