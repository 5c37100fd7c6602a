//! The client's address and the scheme, from the connection or from the headers of proxies.

use http::{HeaderMap, HeaderName, header::FORWARDED};

use super::options::ClientAddress;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// Returns the client's address from the headers of trusted proxies. `None` if the peer is the
/// client, or if the headers are absent.
pub(super) fn client_address(source: ClientAddress, headers: &HeaderMap) -> Option<&str> {
    match source {
        ClientAddress::Peer => None,
        ClientAddress::Forwarded { trusted_hops } => {
            let hop = hop(headers, &FORWARDED, trusted_hops)?;
            address(parameter(hop, "for")?)
        }
        ClientAddress::XForwardedFor { trusted_hops } => {
            address(hop(headers, &X_FORWARDED_FOR, trusted_hops)?)
        }
    }
}

/// Returns the scheme from the headers of trusted proxies, if it is `http` or `https`.
pub(super) fn scheme(source: ClientAddress, headers: &HeaderMap) -> Option<&'static str> {
    let scheme = match source {
        ClientAddress::Peer => return None,
        ClientAddress::Forwarded { trusted_hops } => {
            parameter(hop(headers, &FORWARDED, trusted_hops)?, "proto")?
        }
        // A single value, or one that each proxy appends. The last proxy is the trusted one.
        ClientAddress::XForwardedFor { .. } => hop(headers, &X_FORWARDED_PROTO, 1)?,
    };
    known_scheme(scheme)
}

/// Returns `scheme` if it is `http` or `https`, in any case.
pub(super) fn known_scheme(scheme: &str) -> Option<&'static str> {
    let mut known = ["http", "https"].into_iter();
    known.find(|known| known.eq_ignore_ascii_case(scheme))
}

/// Returns the entry that the outermost trusted proxy added: number `trusted_hops` from the end.
fn hop<'h>(headers: &'h HeaderMap, name: &HeaderName, trusted_hops: usize) -> Option<&'h str> {
    let values = headers.get_all(name).iter();
    let entries: Vec<_> = values
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .collect();
    let index = entries.len().checked_sub(trusted_hops)?;
    let entry = str::from_utf8(entries.get(index)?).ok()?;
    Some(entry.trim())
}

/// Returns a parameter of an entry of `Forwarded`, such as `for=192.0.2.60;proto=https`.
fn parameter<'h>(entry: &'h str, name: &str) -> Option<&'h str> {
    let mut pairs = entry.split(';').filter_map(|pair| pair.split_once('='));
    let (_, value) = pairs.find(|(key, _)| key.trim().eq_ignore_ascii_case(name))?;
    Some(value.trim().trim_matches('"'))
}

/// Returns the address without its port: `192.0.2.60`, `192.0.2.60:47011`, `2001:db8::17` or
/// `[2001:db8::17]:47011`. `None` if it is empty.
fn address(node: &str) -> Option<&str> {
    let node = node.trim();
    let address = match node.strip_prefix('[') {
        Some(bracketed) => bracketed.split(']').next()?,
        // An IPv6 address without brackets has several colons and no port.
        None if node.matches(':').count() == 1 => node.split(':').next()?,
        None => node,
    };
    (!address.is_empty()).then_some(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: &HeaderName, values: &[&'static str]) -> HeaderMap {
        let pair = |value: &&'static str| (name.clone(), value.parse().unwrap());
        let mut headers = HeaderMap::new();
        for (name, value) in values.iter().map(pair) {
            headers.append(name, value);
        }
        headers
    }

    #[test]
    fn a_client_cannot_choose_its_address_by_sending_the_header_itself() {
        let headers = headers(&X_FORWARDED_FOR, &["6.6.6.6", "192.0.2.60, 10.0.0.7"]);
        for (trusted_hops, expected) in [
            (0, None),
            (1, Some("10.0.0.7")),
            (2, Some("192.0.2.60")),
            (9, None),
        ] {
            let source = ClientAddress::XForwardedFor { trusted_hops };
            assert_eq!(client_address(source, &headers), expected);
        }
        assert_eq!(client_address(ClientAddress::Peer, &headers), None);
    }

    #[test]
    fn forwarded_names_the_address_and_the_scheme() {
        let entry = r#"for="[2001:db8::17]:4711";proto=https;by=203.0.113.43"#;
        let headers = headers(&FORWARDED, &["for=6.6.6.6", entry]);
        let source = ClientAddress::Forwarded { trusted_hops: 1 };
        assert_eq!(client_address(source, &headers).unwrap(), "2001:db8::17");
        assert_eq!(scheme(source, &headers), Some("https"));
    }

    #[test]
    fn a_port_is_removed_and_an_unknown_scheme_is_ignored() {
        assert_eq!(address("192.0.2.60:47011").unwrap(), "192.0.2.60");
        assert_eq!(address("2001:db8::17").unwrap(), "2001:db8::17");
        assert_eq!(address(""), None);
        assert_eq!(known_scheme("HTTPS"), Some("https"));
        assert_eq!(known_scheme("gopher"), None);
    }
}
