//! What can be wrong with a device's certificate or its private key, said without anything of the key.

/// The first thing that is wrong. `tls.crt` and `tls.key` are the keys of the Secret that both are read from.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CertificateProblem {
    #[error("{0} is empty")]
    Empty(&'static str),
    #[error("{what} is larger than {most} KiB")]
    TooLarge { what: &'static str, most: usize },
    #[error("tls.crt holds no certificate in PEM (\"-----BEGIN CERTIFICATE-----\")")]
    NoCertificate,
    #[error("certificate {0} in tls.crt is damaged")]
    Damaged(usize),
    #[error(
        "tls.crt holds more than {0} certificates; it takes the device's own and the intermediate CAs above it"
    )]
    TooMany(usize),
    #[error(
        "tls.key holds no private key in PEM; PKCS#8 (\"PRIVATE KEY\"), PKCS#1 (\"RSA PRIVATE KEY\") and SEC 1 (\"EC PRIVATE KEY\") are read"
    )]
    NoKey,
    #[error("tls.key holds more than one private key")]
    SeveralKeys,
    #[error("the private key is encrypted with a password; store it without one")]
    EncryptedKey,
    #[error(
        "the certificate is for a key of a kind that cannot be used ({0}); use ECDSA with P-256 or P-384, RSA with 2048 to 4096 bits, or Ed25519"
    )]
    KeyKind(String),
    #[error("the private key cannot be read: it is damaged, or of another kind than the certificate's")]
    DamagedKey,
    #[error("the private key in tls.key does not belong to the first certificate in tls.crt")]
    OtherKey,
    #[error(
        "the certificate in tls.crt is the throw-away one that cert-manager puts there until the true one is issued"
    )]
    Temporary,
    #[error(
        "the first certificate in tls.crt is a CA's ({0}); the device's own comes first, then the CAs above it"
    )]
    Authority(String),
    #[error(
        "the certificate has no common name; DPS takes it for the registration id, so it has to be {0:?}"
    )]
    NoCommonName(String),
    #[error("the certificate has more than one common name; DPS takes it for the registration id")]
    SeveralCommonNames,
    #[error(
        "the certificate's common name is {found:?}; DPS takes it for the registration id, which is {id:?}"
    )]
    CommonName { found: String, id: String },
    #[error(
        "the certificate is not for clients: its extended key usage has no client authentication (with cert-manager: usages: [client auth])"
    )]
    NotForClients,
    #[error(
        "the registration id has more than 64 characters, which no common name of a certificate can have; set spec.registrationId"
    )]
    LongId,
    #[error(
        "certificate {at} in tls.crt ({subject}) was not issued by the one after it ({next}); the order is the device's own, then each CA that has issued the one before"
    )]
    Order { at: usize, subject: String, next: String },
}
