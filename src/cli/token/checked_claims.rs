use clap::builder::NonEmptyStringValueParser;

/// The claims that some relays check beside the signature.
#[derive(Debug, clap::Args)]
pub(super) struct CheckedClaims {
    /// The relay's AUTH_AUDIENCE, if it has one
    #[arg(
        long = "auth-audience",
        env = "AUTH_AUDIENCE",
        value_parser = NonEmptyStringValueParser::new(),
        value_name = "NAME"
    )]
    pub(super) audience: Option<String>,

    /// The relay's AUTH_ISSUER, if it has one
    #[arg(
        long = "auth-issuer",
        env = "AUTH_ISSUER",
        value_parser = NonEmptyStringValueParser::new(),
        value_name = "NAME"
    )]
    pub(super) issuer: Option<String>,
}
