//! Whose spans a request brings: the header `X-Scope-OrgID`, as Tempo reads it.

use hyper::{HeaderMap, StatusCode};

use crate::model::{TenantError, TenantId};
use crate::receive::{
    Tenancy,
    answer::{Answer, Code},
};

const HEADER: &str = "x-scope-orgid";

impl Tenancy {
    pub(super) fn resolve(&self, headers: &HeaderMap) -> Result<TenantId, Answer> {
        match self {
            Tenancy::Off(tenant) => Ok(tenant.clone()),
            Tenancy::On => named(headers),
        }
    }
}

fn named(headers: &HeaderMap) -> Result<TenantId, Answer> {
    let mut tenant: Option<TenantId> = None;
    for value in headers.get_all(HEADER) {
        let text = String::from_utf8_lossy(value.as_bytes());
        for part in text.split('|') {
            // What follows a colon says something about the tenant, and is not its name.
            let name = part.split_once(':').map_or(part, |(name, _)| name).trim();
            let found = match TenantId::parse(name) {
                Ok(found) => found,
                Err(TenantError::Empty) => continue,
                Err(error) => return Err(Answer::bad_request(error.to_string())),
            };
            if tenant.as_ref().is_some_and(|tenant| *tenant != found) {
                return Err(Answer::bad_request("multiple org IDs present"));
            }
            tenant = Some(found);
        }
    }
    tenant.ok_or_else(|| {
        let missing = TenantError::Empty.to_string();
        Answer::new(Code::Unauthenticated, StatusCode::UNAUTHORIZED, missing)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(values: &[&str]) -> Result<String, (Code, String)> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(HEADER, value.parse().unwrap());
        }
        match Tenancy::On.resolve(&headers) {
            Ok(tenant) => Ok(tenant.to_string()),
            Err(answer) => Err((answer.code, answer.message)),
        }
    }

    #[test]
    fn the_header_names_one_tenant() {
        let bad = |message: &str| Err((Code::InvalidArgument, message.to_owned()));
        let missing = Err((Code::Unauthenticated, "no org id".to_owned()));
        let ok = |tenant: &str| Ok(tenant.to_owned());
        let cases: [(&[&str], _); 10] = [
            (&["team-a"], ok("team-a")),
            (&["a|a"], ok("a")),
            (&["a", "a"], ok("a")),
            (&["a:key=value"], ok("a")),
            (&[], missing.clone()),
            (&["", " "], missing),
            (&["a|b"], bad("multiple org IDs present")),
            (&["a", "b"], bad("multiple org IDs present")),
            (&["a/b"], bad("tenant ID 'a/b' contains unsupported character '/'")),
            (&[".."], bad("tenant ID is '.' or '..'")),
        ];
        for (values, expected) in cases {
            assert_eq!(resolve(values), expected, "{values:?}");
        }
    }

    #[test]
    fn without_tenancy_the_header_is_not_read() {
        let mut headers = HeaderMap::new();
        headers.append(HEADER, "a/b|c".parse().unwrap());
        let tenant = Tenancy::Off(TenantId::single()).resolve(&headers);
        assert_eq!(tenant, Ok(TenantId::single()));
    }
}
