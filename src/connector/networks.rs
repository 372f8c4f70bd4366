//! [`Networks`]: the networks in which servers may be that clients name while the program runs.

use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use ipnet::IpNet;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;
use url::{Host, Url};

/// How long a name may take to be resolved.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(5);

/// Networks that are no place for a server, unless they are named themselves: a wider network does not include them. The own
/// machine, link-local addresses and the metadata services of clouds, multicast, and addresses that stand for an IPv4
/// address of which a translator decides.
static SPECIAL: LazyLock<Vec<IpNet>> = LazyLock::new(|| {
    let special = [
        "0.0.0.0/8",
        "127.0.0.0/8",
        "169.254.0.0/16",
        "100.100.100.200/32",
        "168.63.129.16/32",
        "192.0.0.192/32",
        "224.0.0.0/4",
        "255.255.255.255/32",
        "::/96",
        "fe80::/10",
        "fd00:ec2::254/128",
        "ff00::/8",
        "64:ff9b::/96",
        "64:ff9b:1::/48",
        "2002::/16",
    ];
    let networks = special.iter().map(|text| text.parse());
    networks
        .map(|network| network.expect("a network"))
        .collect()
});

/// Networks that are nobody's on the internet: those of one site, those for documents and tests, and those that stand for an
/// IPv4 address.
static PRIVATE: LazyLock<Vec<IpNet>> = LazyLock::new(|| {
    let private = [
        "10.0.0.0/8",
        "100.64.0.0/10",
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.168.0.0/16",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "240.0.0.0/4",
        "100::/64",
        "2001::/32",
        "2001:db8::/32",
        "fc00::/7",
        "fec0::/10",
    ];
    let networks = private.iter().map(|text| text.parse());
    networks
        .map(|network| network.expect("a network"))
        .collect()
});

/// Networks in which servers may be. Names are resolved and checked for each connection, and the connection goes to an
/// address that was checked: a name that leads elsewhere later leads nowhere. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Networks {
    named: Arc<[IpNet]>,
    /// Whether the public addresses of the internet belong to them.
    has_public: bool,
}

/// Why a server may not be where it is.
#[derive(Debug, thiserror::Error)]
pub enum PlaceError {
    /// Its name cannot be resolved.
    #[error("cannot resolve {0:?}")]
    Unresolved(String, #[source] io::Error),
    /// It is in none of the networks.
    #[error(
        "{0} is at {1}, which is in none of the networks of BACKEND_NETWORKS (--backend-networks)"
    )]
    Outside(String, IpAddr),
    /// It is at no public address.
    #[error("{0} is at {1}, which is not a public address; name its network in WEBHOOK_NETWORKS")]
    NotPublic(String, IpAddr),
}

impl Networks {
    /// These networks.
    pub fn new(networks: &[IpNet]) -> Self {
        Self {
            named: networks.into(),
            has_public: false,
        }
    }

    /// These networks and all public addresses.
    pub fn with_public(networks: &[IpNet]) -> Self {
        Self {
            named: networks.into(),
            has_public: true,
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.named.is_empty() && !self.has_public
    }

    /// Whether an address is in one of them.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = unmapped(address);
        let mut networks = (self.named.iter()).filter(|network| network.contains(&address));
        let is_named = networks.any(|network| {
            let mut special = SPECIAL.iter().filter(|it| it.contains(&address));
            special.all(|special| special.contains(network))
        });
        is_named || (self.has_public && is_public(address))
    }

    /// Whether the host of a URL may be in one of them: it is, or it is a name, which is resolved for each connection.
    pub fn may_contain(&self, url: &Url) -> bool {
        match url.host() {
            Some(Host::Ipv4(address)) => self.contains(address.into()),
            Some(Host::Ipv6(address)) => self.contains(address.into()),
            _ => true,
        }
    }

    /// Checks that the host of a URL is in one of them: all of its addresses.
    ///
    /// # Errors
    ///
    /// If it is not, or its name cannot be resolved.
    pub async fn check(&self, url: &Url) -> Result<(), PlaceError> {
        let host = url.host_str().unwrap_or_default();
        let addresses = match url.host() {
            Some(Host::Ipv4(address)) => vec![address.into()],
            Some(Host::Ipv6(address)) => vec![address.into()],
            _ => {
                let resolved = resolve(host, 0).await;
                let resolved =
                    resolved.map_err(|why| PlaceError::Unresolved(host.to_owned(), why))?;
                resolved.iter().map(SocketAddr::ip).collect()
            }
        };
        let outside = addresses.into_iter().find(|it| !self.contains(*it));
        match outside {
            Some(address) => Err(self.outside(host, address)),
            None => Ok(()),
        }
    }

    /// Connects to the host of a URL, if it is in one of them.
    pub(super) async fn connect(&self, url: &Url) -> io::Result<TcpStream> {
        let port = url.port_or_known_default().unwrap_or_default();
        let addresses = match url.host() {
            Some(Host::Ipv4(address)) => vec![SocketAddr::from((address, port))],
            Some(Host::Ipv6(address)) => vec![SocketAddr::from((address, port))],
            _ => resolve(url.host_str().unwrap_or_default(), port).await?,
        };
        let addresses = self.inside(url.host_str().unwrap_or_default(), addresses)?;
        TcpStream::connect(addresses.as_slice()).await
    }

    /// Those of a host's addresses that are in one of them.
    fn inside(&self, host: &str, addresses: Vec<SocketAddr>) -> io::Result<Vec<SocketAddr>> {
        let first = addresses.first().map(SocketAddr::ip);
        let inside = addresses.into_iter().filter(|it| self.contains(it.ip()));
        let inside: Vec<SocketAddr> = inside.collect();
        match first {
            Some(first) if inside.is_empty() => Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                self.outside(host, first),
            )),
            _ => Ok(inside),
        }
    }
}

impl Networks {
    fn outside(&self, host: &str, address: IpAddr) -> PlaceError {
        let host = host.to_owned();
        if self.has_public {
            PlaceError::NotPublic(host, address)
        } else {
            PlaceError::Outside(host, address)
        }
    }
}

/// Whether an address is one of the internet.
fn is_public(address: IpAddr) -> bool {
    let mut others = SPECIAL.iter().chain(PRIVATE.iter());
    !others.any(|network| network.contains(&address))
}

impl Resolve for Networks {
    fn resolve(&self, name: Name) -> Resolving {
        let networks = self.clone();
        Box::pin(async move {
            let resolved = resolve(name.as_str(), 0).await;
            let inside = resolved.and_then(|all| networks.inside(name.as_str(), all));
            let addresses: Addrs = Box::new(inside?.into_iter());
            Ok(addresses)
        })
    }
}

/// The addresses of a name, at least one.
async fn resolve(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    let resolved = timeout(RESOLVE_TIMEOUT, lookup_host((host, port))).await??;
    let addresses: Vec<SocketAddr> = resolved.collect();
    if addresses.is_empty() {
        return Err(io::Error::new(io::ErrorKind::NotFound, "no address"));
    }
    Ok(addresses)
}

/// An IPv4 address that is written as an IPv6 address leads where the IPv4 address leads.
fn unmapped(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V6(address) => Ipv6Addr::to_canonical(&address),
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn networks(texts: &[&str]) -> Networks {
        let networks: Vec<IpNet> = texts.iter().map(|text| text.parse().unwrap()).collect();
        Networks::new(&networks)
    }

    #[test]
    fn an_address_is_in_a_network_however_it_is_written() {
        let networks = networks(&["10.0.0.0/8", "2001:db8::/32"]);
        for (address, is_inside) in [
            ("10.1.2.3", true),
            ("::ffff:10.1.2.3", true),
            ("2001:db8::7", true),
            ("11.0.0.1", false),
            ("127.0.0.1", false),
            ("::1", false),
            ("::ffff:127.0.0.1", false),
            ("2001:db9::7", false),
        ] {
            assert_eq!(
                networks.contains(address.parse().unwrap()),
                is_inside,
                "{address}"
            );
        }
    }

    #[test]
    fn a_wide_network_does_not_include_the_own_machine_and_metadata_services() {
        let all = networks(&["0.0.0.0/0", "::/0"]);
        let named = networks(&["127.0.0.0/8", "169.254.169.254/32", "fe80::/10", "::1/128"]);
        for address in [
            "127.0.0.1",
            "0.0.0.0",
            "169.254.169.254",
            "::ffff:169.254.169.254",
            "::169.254.169.254",
            "64:ff9b::a9fe:a9fe",
            "2002:a9fe:a9fe::1",
            "100.100.100.200",
            "fd00:ec2::254",
            "fe80::1",
            "::1",
            "::",
            "224.0.0.1",
            "ff02::1",
        ] {
            assert!(!all.contains(address.parse().unwrap()), "{address}");
        }
        for address in ["127.0.0.1", "169.254.169.254", "fe80::1", "::1"] {
            assert!(named.contains(address.parse().unwrap()), "{address}");
        }
        assert!(!named.contains("169.254.169.253".parse().unwrap()));
        assert!(all.contains("192.168.1.7".parse().unwrap()));
        assert!(!networks(&[]).contains("192.168.1.7".parse().unwrap()));
    }

    #[test]
    fn a_private_address_is_public_only_where_its_network_is_named() {
        let public = Networks::with_public(&[]);
        let named = Networks::with_public(&["10.0.7.0/24".parse().unwrap()]);
        for (address, is_inside) in [
            ("93.184.216.34", true),
            ("2606:2800:220:1:248:1893:25c8:1946", true),
            ("10.0.7.9", false),
            ("::ffff:10.0.7.9", false),
            ("127.0.0.1", false),
            ("169.254.169.254", false),
            ("100.64.0.1", false),
            ("192.168.1.1", false),
            ("fd00::1", false),
            ("::1", false),
            ("64:ff9b::a00:709", false),
        ] {
            let address: IpAddr = address.parse().unwrap();
            assert_eq!(public.contains(address), is_inside, "{address}");
            let is_named = unmapped(address).to_string() == "10.0.7.9";
            assert_eq!(named.contains(address), is_inside || is_named, "{address}");
        }
        let refused = public.inside("hook", vec!["10.0.7.9:80".parse().unwrap()]);
        let why = refused.unwrap_err().to_string();
        assert!(
            why.contains("hook is at 10.0.7.9") && why.contains("WEBHOOK_NETWORKS"),
            "{why}"
        );
    }

    #[test]
    fn of_several_addresses_only_those_inside_are_dialled() {
        let networks = networks(&["10.0.0.0/8"]);
        let at = |text: &str| -> SocketAddr { text.parse().unwrap() };
        let mixed = vec![at("127.0.0.1:80"), at("10.0.0.1:80")];
        assert_eq!(networks.inside("gpu", mixed).unwrap(), [at("10.0.0.1:80")]);
        let refused = networks
            .inside("gpu", vec![at("127.0.0.1:80")])
            .unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::PermissionDenied);
        assert!(
            refused.to_string().contains("gpu is at 127.0.0.1"),
            "{refused}"
        );
    }
}
