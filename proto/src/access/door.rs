//! The door in front of a service: it sees every call first, and its answer.

use super::{
    Caller,
    refusals::{Refusals, marked},
    role::{self, Role, Roles},
    token::Tokens,
};
use crate::channel::RUN;
use riser_core::{digest::Digest, refusals::RefusalReason};
use std::{
    future::{self, Future},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};
use tonic::{Code, Request, Status, body::Body, metadata::MetadataMap, server::NamedService};
use tower::Service;

/// What is asked of callers.
#[derive(Debug)]
pub(super) struct Rules {
    /// Whether certificates are asked for, and then whether one that names no role is anybody's.
    pub(super) certificates: Option<bool>,
    pub(super) tokens: Option<Tokens>,
    pub(super) run: Option<Digest>,
}

/// A service behind a door.
#[derive(Debug, Clone)]
pub struct Door<S> {
    service: S,
    rules: Arc<Rules>,
    refusals: Refusals,
}

/// A call that goes no further.
#[derive(Debug, PartialEq, Eq)]
struct Refused {
    reason: RefusalReason,
    code: Code,
    what: String,
}

impl<S> Door<S> {
    pub(super) fn new(service: S, rules: Rules, refusals: Refusals) -> Self {
        Self { service, rules: Arc::new(rules), refusals }
    }
}

impl Rules {
    /// Lets a call of `path` in, or says why not.
    fn check(&self, path: &str, request: &Request<()>) -> Result<(), Refused> {
        if self.certificates.is_some() || self.tokens.is_some() {
            // What is not known here is for nobody; the service says that it does not know it either.
            let callers = role::callers_of(path).unwrap_or_default();
            let call = path.strip_prefix("/riser.v1.").unwrap_or(path);
            let only = || format!("{call} is for {}", role::one_of(callers));
            self.check_certificate(request, callers).map_err(|shown| Refused {
                reason: RefusalReason::Role,
                code: Code::PermissionDenied,
                what: format!("shows a certificate {shown}, {}", only()),
            })?;
            self.check_token(request.metadata(), callers).map_err(|shown| {
                let what = shown.map_or_else(str::to_owned, |role| format!("shows the token of a {role}, {}", only()));
                Refused { reason: RefusalReason::Token, code: Code::Unauthenticated, what }
            })?;
        }
        self.check_run(request.metadata())
    }

    /// The error is what the certificate is for.
    fn check_certificate(&self, request: &Request<()>, callers: &[Role]) -> Result<(), String> {
        let Some(unnamed) = self.certificates else { return Ok(()) };
        // The connection was made with a certificate, so this finds one.
        let certificates = request.peer_certs();
        let own = certificates.as_ref().and_then(|chain| chain.first()).ok_or("that is not there")?;
        let roles = Roles::of_certificate(own).map_err(|error| format!("that cannot be read ({error})"))?;
        if roles.include(callers, unnamed) { Ok(()) } else { Err(roles.to_string()) }
    }

    /// The error is the role whose token it is, or what else is wrong with it.
    fn check_token(&self, metadata: &MetadataMap, callers: &[Role]) -> Result<(), Result<Role, &'static str>> {
        let Some(tokens) = &self.tokens else { return Ok(()) };
        let shown = metadata.get("authorization").ok_or(Err("shows no token, this run asks for a join token"))?;
        let roles = tokens.roles(shown.as_encoded_bytes());
        if roles.iter().any(|role| callers.contains(role)) {
            return Ok(());
        }
        Err(roles.first().copied().ok_or("shows a token that is not the one of this run"))
    }

    fn check_run(&self, metadata: &MetadataMap) -> Result<(), Refused> {
        let (Some(own), Some(shown)) = (self.run, metadata.get(RUN)) else { return Ok(()) };
        let refused = |code, what| Err(Refused { reason: RefusalReason::Run, code, what });
        match shown.to_str().ok().and_then(|text| text.parse::<Digest>().ok()) {
            Some(shown) if shown == own => Ok(()),
            Some(shown) => {
                let what = format!("belongs to run {}, this is run {}", shown.short(), own.short());
                refused(Code::FailedPrecondition, what)
            }
            None => refused(Code::InvalidArgument, format!("names a run that is not a digest (`{RUN}`)")),
        }
    }
}

impl<S: NamedService> NamedService for Door<S> {
    const NAME: &'static str = S::NAME;
}

impl<S> Service<http::Request<Body>> for Door<S>
where
    S: Service<http::Request<Body>, Response = http::Response<Body>>,
    S::Error: Send + 'static,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.service.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let (metadata, extensions) = (request.headers().clone(), request.extensions().clone());
        let seen = Request::from_parts(MetadataMap::from_headers(metadata), extensions, ());
        let caller = Caller::of(&seen);
        if let Err(Refused { reason, code, what }) = self.rules.check(request.uri().path(), &seen) {
            self.refusals.note(caller, reason, &what);
            let status = marked(Status::new(code, format!("{caller} {what}")), reason);
            return Box::pin(future::ready(Ok(status.into_http())));
        }
        let (answer, refusals) = (self.service.call(request), self.refusals.clone());
        Box::pin(async move {
            let answer = answer.await?;
            // Only the decoder of messages says this, about a message that is too large to be looked at.
            let too_large = |status: &&Status| status.code() == Code::OutOfRange;
            if let Some(status) = answer.extensions().get::<Status>().filter(too_large) {
                refusals.note(caller, RefusalReason::Size, status.message());
            }
            Ok(answer)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::Token;
    use tonic::Extensions;

    const SECRET: &str = "0123456789abcdef";
    const LEASE: &str = "/riser.v1.Coordinator/Lease";
    const ADVANCE: &str = "/riser.v1.Coordinator/Advance";

    fn nobody() -> Rules {
        Rules { certificates: None, tokens: None, run: None }
    }

    fn knock(rules: &Rules, path: &str, headers: &[(&'static str, &str)]) -> Result<(), (Code, String)> {
        let mut metadata = MetadataMap::new();
        for (name, value) in headers {
            metadata.insert(*name, value.parse().unwrap());
        }
        let request = Request::from_parts(metadata, Extensions::default(), ());
        rules.check(path, &request).map_err(|refused| (refused.code, refused.what))
    }

    #[test]
    fn only_the_right_token_opens_the_door() {
        let rules = Rules { tokens: Some(Tokens::common(Token::new(SECRET).unwrap())), ..nobody() };
        let right = format!("Bearer {SECRET}");
        assert_eq!(knock(&rules, LEASE, &[("authorization", &right)]), Ok(()));
        for wrong in [&[("authorization", "Bearer 0123456789abcdeg")][..], &[("authorization", SECRET)], &[]] {
            assert_eq!(knock(&rules, LEASE, wrong).unwrap_err().0, Code::Unauthenticated);
        }
        assert!(knock(&rules, "/riser.v1.Coordinator/Other", &[("authorization", &right)]).is_err());
    }

    #[test]
    fn the_token_of_one_role_does_not_open_the_door_for_the_calls_of_another() {
        let learner = "l".repeat(16);
        let tokens = Tokens::common(Token::new(SECRET).unwrap()).with_learner(Some(Token::new(&learner).unwrap()));
        let rules = Rules { tokens: Some(tokens), ..nobody() };
        let (worker, learner) = (format!("Bearer {SECRET}"), format!("Bearer {learner}"));
        assert_eq!(knock(&rules, LEASE, &[("authorization", &worker)]), Ok(()));
        assert_eq!(knock(&rules, ADVANCE, &[("authorization", &learner)]), Ok(()));
        let refused = |path, token: &String| knock(&rules, path, &[("authorization", token)]).unwrap_err().1;
        assert_eq!(refused(ADVANCE, &worker), "shows the token of a worker, Coordinator/Advance is for a learner");
        assert_eq!(refused(LEASE, &learner), "shows the token of a learner, Coordinator/Lease is for a worker");
    }

    #[test]
    fn a_caller_of_another_run_is_refused_and_one_that_names_no_run_is_not() {
        let own = Digest::of(b"own");
        let rules = Rules { run: Some(own), ..nobody() };
        assert_eq!(knock(&rules, LEASE, &[(RUN, &own.to_string())]), Ok(()));
        assert_eq!(knock(&rules, LEASE, &[]), Ok(()));
        let other = Digest::of(b"other").to_string();
        assert_eq!(knock(&rules, LEASE, &[(RUN, &other)]).unwrap_err().0, Code::FailedPrecondition);
        assert_eq!(knock(&rules, LEASE, &[(RUN, "run")]).unwrap_err().0, Code::InvalidArgument);
    }

    #[test]
    fn a_caller_that_somehow_shows_no_certificate_is_refused_where_one_is_asked_for() {
        let rules = Rules { certificates: Some(true), ..nobody() };
        let (code, what) = knock(&rules, LEASE, &[]).unwrap_err();
        assert_eq!(
            (code, &what[..]),
            (Code::PermissionDenied, "shows a certificate that is not there, Coordinator/Lease is for a worker")
        );
    }
}
