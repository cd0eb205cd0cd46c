//! A distinguished name as text (RFC 2253), as Java's `X500Principal.getName()` writes it.

use std::fmt::Write as _;

use x509_parser::{
    der_parser::asn1_rs::ToDer as _,
    x509::{AttributeTypeAndValue, X509Name},
};

/// The attributes with a name. All others are numbers, with their values in hexadecimal digits.
const KEYWORDS: [(&str, &str); 9] = [
    ("2.5.4.3", "CN"),
    ("2.5.4.6", "C"),
    ("2.5.4.7", "L"),
    ("2.5.4.8", "ST"),
    ("2.5.4.9", "STREET"),
    ("2.5.4.10", "O"),
    ("2.5.4.11", "OU"),
    ("0.9.2342.19200300.100.1.1", "UID"),
    ("0.9.2342.19200300.100.1.25", "DC"),
];

/// The last part of the name comes first.
pub(super) fn text(name: &X509Name<'_>) -> String {
    let parts: Vec<String> = name
        .iter_rdn()
        .map(|part| {
            let attributes: Vec<String> = part.iter().map(attribute).collect();
            attributes.join("+")
        })
        .collect();
    let parts: Vec<&str> = parts.iter().rev().map(String::as_str).collect();
    parts.join(",")
}

fn attribute(attribute: &AttributeTypeAndValue<'_>) -> String {
    let number = attribute.attr_type().to_id_string();
    let keyword = KEYWORDS.iter().find(|(known, _)| *known == number);
    match (keyword, attribute.as_str()) {
        (Some((_, keyword)), Ok(value)) => format!("{keyword}={}", escape(value)),
        (keyword, _) => {
            let mut text = format!("{}=#", keyword.map_or(&*number, |(_, keyword)| keyword));
            for byte in attribute.attr_value().to_der_vec().unwrap_or_default() {
                // Writing to a string does not fail.
                let _infallible = write!(text, "{byte:02x}");
            }
            text
        }
    }
}

fn escape(value: &str) -> String {
    let mut text = String::with_capacity(value.len());
    let last = value.chars().count().saturating_sub(1);
    for (index, c) in value.chars().enumerate() {
        let is_special = match c {
            ',' | '+' | '"' | '\\' | '<' | '>' | ';' => true,
            ' ' => index == 0 || index == last,
            '#' => index == 0,
            _ => false,
        };
        if is_special {
            text.push('\\');
        }
        text.push(c);
    }
    text
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};
    use x509_parser::prelude::{FromDer as _, X509Certificate};

    use super::*;

    #[test]
    fn names_are_written_as_java_does() {
        let mut name = DistinguishedName::new();
        name.push(DnType::CountryName, "DE");
        name.push(DnType::OrganizationName, "Example, Inc.");
        name.push(DnType::CustomDnType(vec![2, 5, 4, 12]), "boss");
        name.push(DnType::CommonName, " #alice+b ");
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.distinguished_name = name;
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let (_, parsed) = X509Certificate::from_der(certificate.der()).unwrap();
        assert_eq!(
            text(parsed.subject()),
            r"CN=\ #alice\+b\ ,2.5.4.12=#0c04626f7373,O=Example\, Inc.,C=DE"
        );
    }
}
