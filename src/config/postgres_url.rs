//! The URL of a PostgreSQL database, as libpq reads it:
//! `postgres://USER:PASSWORD@HOST:PORT,HOST:PORT/NAME?PARAMETER=VALUE`.

use std::time::Duration;

use percent_encoding::percent_decode_str;

use super::postgres::{ChannelBinding, PostgresConfig, PostgresHost, SslRoots, TargetSession};

/// How characters that have a meaning are written.
const RULE: &str =
    "in a user, password or name write % as %25, and @ : / ? # as %40 %3A %2F %3F %23";

/// Parameters of the URL that name the database and its servers, beside those before the `?`.
#[derive(Default)]
struct Address {
    hosts: Vec<String>,
    addresses: Vec<String>,
    ports: Vec<String>,
    name: String,
}

/// Reads what follows `postgres://`. No error repeats a part of the text, which may be a piece of the password.
pub(super) fn parse(text: &str) -> Result<PostgresConfig, String> {
    let (location, parameters) = text.split_once('?').unwrap_or((text, ""));
    let (authority, name) = location.split_once('/').unwrap_or((location, ""));
    let (credentials, hosts) = match authority.rsplit_once('@') {
        Some((credentials, hosts)) => (Some(credentials), hosts),
        None => (None, authority),
    };
    let mut config = PostgresConfig::new(String::new());
    if let Some(credentials) = credentials {
        let (user, password) = match credentials.split_once(':') {
            Some((user, password)) => (user, Some(password)),
            None => (credentials, None),
        };
        config.user = Some(decode(user)?).filter(|user| !user.is_empty());
        config.password = password.map(decode).transpose()?.map(Into::into);
    }
    let mut address = Address {
        name: decode(name)?,
        ..Address::default()
    };
    for host in hosts.split(',').filter(|_| !hosts.is_empty()) {
        let (name, port) = split_port(host)?;
        address.hosts.push(decode(name)?);
        address.ports.push(decode(port)?);
    }
    for parameter in parameters.split('&').filter(|it| !it.is_empty()) {
        let (name, value) = parameter.split_once('=').ok_or(
            "a parameter behind the ? has no value: expected NAME=VALUE, with & between them",
        )?;
        set(&mut config, &mut address, &decode(name)?, decode(value)?)?;
    }
    config.hosts = address.hosts()?;
    if address.name.is_empty() {
        return Err("the name of the database is missing: /NAME behind the host".to_owned());
    }
    config.name = address.name;
    Ok(config)
}

/// Splits `HOST`, `HOST:PORT` or `[IPv6]:PORT`.
fn split_port(host: &str) -> Result<(&str, &str), String> {
    if let Some(rest) = host.strip_prefix('[') {
        let (name, port) = rest
            .split_once(']')
            .ok_or("a host begins with [ and has no ]: write an IPv6 address as [::1]")?;
        return match port.strip_prefix(':') {
            Some(port) => Ok((name, port)),
            None if port.is_empty() => Ok((name, "")),
            None => Err("expected [IPv6]:PORT".to_owned()),
        };
    }
    let (name, port) = host.split_once(':').unwrap_or((host, ""));
    if port.contains(':') {
        return Err(format!(
            "a host has more than one colon: write an IPv6 address as [::1]; {RULE}"
        ));
    }
    Ok((name, port))
}

/// Sets a parameter that stands behind the `?`.
fn set(
    config: &mut PostgresConfig,
    address: &mut Address,
    name: &str,
    value: String,
) -> Result<(), String> {
    let list = || value.split(',').map(str::to_owned).collect();
    match name {
        "host" => address.hosts = list(),
        "hostaddr" => address.addresses = list(),
        "port" => address.ports = list(),
        "dbname" => address.name = value,
        "user" => config.user = Some(value),
        "password" => config.password = Some(value.into()),
        "passfile" => config.pass_file = Some(value.into()),
        "options" => config.options = Some(value),
        "application_name" => config.application_name = value,
        "sslmode" => config.ssl_mode = Some(value.parse()?),
        "sslrootcert" => config.ssl_roots = Some(SslRoots::from(value.as_str())),
        "channel_binding" => {
            config.channel_binding = match value.as_str() {
                "disable" => ChannelBinding::Disable,
                "prefer" => ChannelBinding::Prefer,
                "require" => ChannelBinding::Require,
                _ => return Err(format!("{name} is none of disable, prefer, require")),
            }
        }
        "target_session_attrs" => {
            config.target = match value.as_str() {
                "any" => TargetSession::Any,
                // Of the servers, only the primary accepts writes.
                "read-write" | "primary" => TargetSession::ReadWrite,
                _ => {
                    return Err(format!(
                        "{name} is none of any, read-write, primary: the relay writes"
                    ));
                }
            }
        }
        "connect_timeout" => match seconds(name, &value)? {
            Duration::ZERO => return Err(format!("{name} is 0: give at least one second")),
            time => config.connect_timeout = time,
        },
        "tcp_user_timeout" => {
            config.tcp_user_timeout = Duration::from_millis(number(name, &value)?.into());
        }
        "keepalives" => config.keepalives.is_off = number(name, &value)? == 0,
        "keepalives_idle" => config.keepalives.idle = nonzero(seconds(name, &value)?),
        "keepalives_interval" => config.keepalives.interval = nonzero(seconds(name, &value)?),
        "keepalives_count" => {
            config.keepalives.count = Some(number(name, &value)?).filter(|count| *count > 0);
        }
        _ => return Err(format!("unknown parameter {name:?} behind the ?")),
    }
    Ok(())
}

impl Address {
    /// One port holds for all hosts; an address may stand for the name of its host.
    fn hosts(&self) -> Result<Vec<PostgresHost>, String> {
        let count = self.hosts.len().max(self.addresses.len()).max(1);
        let fits = |list: &[String]| list.is_empty() || list.len() == count;
        if !fits(&self.hosts)
            || !fits(&self.addresses)
            || !(fits(&self.ports) || self.ports.len() == 1)
        {
            return Err("the numbers of hosts, of hostaddr and of ports differ".to_owned());
        }
        let host = |index: usize| {
            let address = self.addresses.get(index).map(String::as_str);
            let address = address.filter(|address| !address.is_empty());
            let name = self.hosts.get(index).map(String::as_str);
            let name = name.filter(|name| !name.is_empty()).or(address);
            let port = self.ports.get(index).or_else(|| self.ports.first());
            let mut host = PostgresHost::new(name.unwrap_or("localhost").to_owned());
            host.address = match address.map(str::parse) {
                Some(Ok(address)) => Some(address),
                Some(Err(_)) => return Err("hostaddr is no IP address".to_owned()),
                None => None,
            };
            if let Some(port) = port.filter(|port| !port.is_empty()) {
                let port = port.parse().ok().filter(|port| *port > 0);
                host.port =
                    port.ok_or_else(|| format!("a port is not a number from 1 to 65535; {RULE}"))?;
            }
            Ok(host)
        };
        (0..count).map(host).collect()
    }
}

fn number(name: &str, value: &str) -> Result<u32, String> {
    let number = value.parse();
    number.map_err(|_| format!("{name} is not a whole number from 0 to {}", u32::MAX))
}

fn seconds(name: &str, value: &str) -> Result<Duration, String> {
    Ok(Duration::from_secs(number(name, value)?.into()))
}

/// libpq takes 0 for the system's own value.
fn nonzero(time: Duration) -> Option<Duration> {
    Some(time).filter(|time| !time.is_zero())
}

/// Decodes `%41` to `A`. A plus sign stays one.
fn decode(text: &str) -> Result<String, String> {
    let is_hex = |at: usize| {
        let digits = text.as_bytes().get(at + 1..at + 3);
        digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
    };
    if text.match_indices('%').any(|(at, _)| !is_hex(at)) {
        return Err(format!(
            "a % is not followed by two hexadecimal digits; {RULE}"
        ));
    }
    let decoded = percent_decode_str(text).decode_utf8();
    let decoded = decoded.map_err(|_| format!("what follows a % is not UTF-8; {RULE}"))?;
    if decoded.contains('\0') {
        return Err("%00 cannot be part of an address".to_owned());
    }
    Ok(decoded.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::SslMode;

    /// Hosts and ports, with spaces between them.
    fn hosts(text: &str) -> String {
        let config = parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        let host = |host: &PostgresHost| format!("{} {}", host.name, host.port);
        let hosts: Vec<String> = config.hosts.iter().map(host).collect();
        hosts.join(" ")
    }

    fn error(text: &str) -> String {
        match parse(text) {
            Ok(config) => panic!("{text} is taken for {config}"),
            Err(error) => error,
        }
    }

    #[test]
    fn hosts_are_names_addresses_and_sockets() {
        for (text, expected) in [
            ("db/n", "db 5432"),
            ("db:1/n", "db 1"),
            ("/n", "localhost 5432"),
            ("[::1]/n", "::1 5432"),
            ("[fe80::1]:1/n", "fe80::1 1"),
            ("a:1,b,[::1]:3/n", "a 1 b 5432 ::1 3"),
            ("/n?host=/run/postgresql", "/run/postgresql 5432"),
            ("%2Frun%2Fpostgresql:1/n", "/run/postgresql 1"),
            ("u@:7/n?host=/run", "/run 7"),
            ("/n?host=a,b&port=1", "a 1 b 1"),
            ("db/n?host=other", "other 5432"),
            ("/n?hostaddr=127.0.0.2", "127.0.0.2 5432"),
        ] {
            assert_eq!(hosts(text), expected, "{text}");
        }
        let config = parse("db/n?hostaddr=::1").unwrap();
        assert_eq!(config.hosts[0].address, "::1".parse().ok());
        for text in [
            "::1/n",
            "[::1/n",
            "[::1]1/n",
            "db:x/n",
            "db:0/n",
            "a,b/n?port=1,2,3",
        ] {
            error(text);
        }
    }

    #[test]
    fn users_and_passwords_are_percent_decoded() {
        for (text, user, password) in [
            ("u:p@h/n", "u", "p"),
            ("u:a+b@h/n", "u", "a+b"),
            ("u:%25%3A%40%2F%3F%23%20@h/n", "u", "%:@/?# "),
            ("u:p@ss@h/n", "u", "p@ss"),
            ("u:a:b@h/n", "u", "a:b"),
            ("%C3%BC:p%E2%82%AC@h/n", "ü", "p€"),
            ("ü:p€@h/n", "ü", "p€"),
            ("h/n?user=u&password=a%26b", "u", "a&b"),
            ("u:@h/n", "u", ""),
        ] {
            let config = parse(text).unwrap();
            assert_eq!(config.user.as_deref(), Some(user), "{text}");
            let given = config.password.unwrap();
            assert_eq!(given.expose(), password, "{text}");
        }
        for text in ["u:50%@h/n", "u:%zz@h/n", "u:%2@h/n", "u:hunter2/x@h/n"] {
            let error = error(text);
            assert!(error.contains("%25"), "{text}: {error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
        error("u:%FF@h/n");
        error("u:%00@h/n");
    }

    #[test]
    fn parameters_are_those_of_libpq() {
        let config = parse(
            "h/n?sslmode=verify-full&sslrootcert=system&options=-c%20search_path%3Drelay&application_name=a\
             &connect_timeout=9&tcp_user_timeout=1500&keepalives=0&keepalives_idle=3&target_session_attrs=any",
        )
        .unwrap();
        assert_eq!(config.ssl_mode(), SslMode::VerifyFull);
        assert_eq!(config.ssl_roots, Some(SslRoots::System));
        assert_eq!(config.options.as_deref(), Some("-c search_path=relay"));
        assert_eq!(config.application_name, "a");
        assert_eq!(config.connect_timeout, Duration::from_secs(9));
        assert_eq!(config.tcp_user_timeout, Duration::from_millis(1500));
        assert!(config.keepalives.is_off);
        assert!(!config.needs_writes());
        let default = parse("a,b/n").unwrap();
        assert_eq!(default.application_name, "comfy-relay");
        assert_eq!(default.ssl_mode(), SslMode::Prefer);
        assert!(default.needs_writes(), "one of them may be a standby");
        for (parameter, named) in [
            ("sslmod=require", "sslmod"),
            ("sslmode=allow", "verify-full"),
            ("target_session_attrs=standby", "target_session_attrs"),
            ("connect_timeout=0", "connect_timeout"),
            ("connect_timeout=soon", "connect_timeout"),
            ("keepalives_idle", "NAME=VALUE"),
        ] {
            let error = error(&format!("h/n?{parameter}"));
            assert!(error.contains(named), "{parameter}: {error}");
        }
        assert!(error("h").contains("name of the database"));
    }

    #[test]
    fn contradictions_of_encryption_are_found() {
        for (parameters, is_right) in [
            ("sslmode=verify-ca", false),
            ("sslmode=verify-ca&sslrootcert=system", false),
            ("sslmode=require&sslrootcert=system", false),
            ("sslrootcert=system", true),
            ("sslmode=verify-full", true),
            ("sslmode=verify-ca&sslrootcert=ca.pem", true),
            ("sslmode=require&sslrootcert=ca.pem", true),
        ] {
            let config = parse(&format!("h/n?{parameters}")).unwrap();
            assert_eq!(config.check().is_ok(), is_right, "{parameters}");
        }
    }

    #[test]
    fn a_printed_address_hides_the_password() {
        for (text, printed) in [
            ("u:p@h/n", "postgres://u:***@h:5432/n"),
            ("u%40x@[::1]:2/a%20b", "postgres://u%40x@[::1]:2/a%20b"),
            ("a,b/n?password=p", "postgres://a:5432,b:5432/n"),
            ("/n?host=/run", "postgres://%2Frun:5432/n"),
        ] {
            assert_eq!(parse(text).unwrap().to_string(), printed);
        }
    }
}
