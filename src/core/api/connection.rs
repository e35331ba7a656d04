//! `spec.connection`: where the database is and how clients log in, for the entries of the Secret that say so.

use kube_derive::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A CEL expression: the text is a path as pods mount and clients open it.
macro_rules! is_path {
    ($text:literal) => {
        concat!($text, ".matches('^(/[A-Za-z0-9_.-]+)+$')")
    };
}

/// A CEL expression: the text is a host name in lower-case ASCII (RFC 1123), without a port.
macro_rules! host_name {
    () => {
        "[a-z0-9]([a-z0-9-]*[a-z0-9])?([.][a-z0-9]([a-z0-9-]*[a-z0-9])?)*"
    };
}

/// The CEL rule of each host. The first line has the form and the range of the port. The other two leave the addresses to the API
/// server's own parser.
const HOSTS_ARE_VALID: &str = concat!(
    "self.all(h, h.matches('^(",
    host_name!(),
    "|[[][0-9a-f:.]+[]])(:(6553[0-5]|655[0-2][0-9]|65[0-4][0-9][0-9]|6[0-4][0-9][0-9][0-9]|[1-5][0-9][0-9][0-9][0-9]|[1-9][0-9]?[0-9]?[0-9]?))?$')",
    " && (!h.matches('^[0-9.]+(:[0-9]+)?$') || isIP(h.split(':')[0]))",
    " && (!h.startsWith('[') || h.split(']')[0].contains(':') && isIP(h.substring(1, h.indexOf(']')))))",
);

/// The CEL rule that no host is named twice: with its default port it is the same host.
const HOSTS_DIFFER: &str = "!has(self.hosts) || self.hosts.map(h, h.matches(':[0-9]+$') ? h : h + {'mongodb': ':27017', 'postgresql': ':5432', 'mysql': ':3306'}[self.type]).all(h, self.hosts.map(g, g.matches(':[0-9]+$') ? g : g + {'mongodb': ':27017', 'postgresql': ':5432', 'mysql': ':3306'}[self.type]).exists_one(g, g == h))";

/// An option's name as clients compare it, in CEL. `-` and `_` are left out, because clients of one database differ in them.
macro_rules! each_option {
    ($expression:literal) => {
        concat!(
            "!has(self.options) || self.options.map(o, o.name.lowerAscii().replace('-', '').replace('_', '')).all(n, ",
            $expression,
            ")"
        )
    };
}

/// The CEL rule that no option names what the uri says elsewhere, and none carries a password.
const OPTIONS_NAME_NO_USER: &str = each_option!(
    "!n.contains('password') && !(n in ['user', 'username', 'host', 'hostaddr', 'port', 'database', 'dbname', 'schema', 'socket', 'scheme', 'service', 'servicefile', 'passfile'])"
);

/// The CEL rule that no option changes how MongoDB's drivers log in, or how they verify the server: all that begins with `auth`,
/// `tls` or `ssl`, also what only one driver knows. Three options only make the check of the server's certificate stricter, or
/// quicker.
const OPTIONS_KEEP_THE_LOGIN_OF_MONGODB: &str = concat!(
    "self.type != 'mongodb' || ",
    each_option!(
        "!n.matches('^(auth|tls|ssl)') || n in ['tlscrlfile', 'tlsdisableocspendpointcheck', 'tlsdisablecertificaterevocationcheck']"
    )
);

/// The same for clients of PostgreSQL and MySQL.
const OPTIONS_KEEP_THE_LOGIN_OF_OTHERS: &str = concat!(
    "self.type == 'mongodb' || ",
    each_option!(
        "!(n in ['ssl', 'tls', 'usessl', 'requiressl', 'sslmode', 'sslca', 'sslcapath', 'sslcert', 'sslcertmode', 'sslkey', 'sslrootcert'])"
    )
);

/// The CEL rule of MongoDB's options that need a certain kind of address (URI options specification).
const OPTIONS_FIT_THE_ADDRESS: &str = concat!(
    "self.type != 'mongodb' || !has(self.options) || self.options.all(o, [o.name.lowerAscii()].all(n, ",
    "(n in ['srvmaxhosts', 'srvservicename'] ? has(self.srv) : true)",
    " && (n == 'directconnection' && o.value == 'true' ? has(self.hosts) && self.hosts.size() == 1 : true)",
    " && (n == 'loadbalanced' && o.value == 'true' ? has(self.srv) || self.hosts.size() == 1 : true)))",
);

/// Where the database is and how clients log in. If it is given, the Secret also has entries such as `uri`, by which programs
/// find the database without further configuration.
#[derive(Clone, Debug, Default, Deserialize, Serialize, KubeSchema, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.hosts) != has(self.srv)").message("give either hosts or srv"))]
#[x_kube(validation = Rule::new("!has(self.srv) || self.type == 'mongodb'").message("srv is for type mongodb: give hosts"))]
#[x_kube(validation = Rule::new("self.type != 'mysql' || !has(self.hosts) || self.hosts.size() == 1").message("a uri of type mysql has one host: give one in hosts"))]
#[x_kube(validation = Rule::new(HOSTS_DIFFER).message("a host is in hosts twice; a host without a port has the default port of its type"))]
#[x_kube(validation = Rule::new("self.type == 'mongodb' || has(self.serverCAFile)").message("serverCAFile is needed for types postgresql and mysql, because their clients verify the server only against a CA that is named: give ca.crt if the CA of this certificate has signed the server's too, else the path of a file"))]
#[x_kube(validation = Rule::new(r#"self.type != 'mongodb' || !has(self.database) || !self.database.matches('[/. "$\\\\]')"#).message("the database of type mongodb must not have a slash, backslash, space, quotation mark, dollar sign or dot"))]
#[x_kube(validation = Rule::new(OPTIONS_NAME_NO_USER).message("options must not name the user, a password, a host, a port or the database"))]
#[x_kube(validation = Rule::new(OPTIONS_KEEP_THE_LOGIN_OF_MONGODB).message("options must not change the login or the check of the server: the operator sets authMechanism, authSource and what begins with tls or ssl"))]
#[x_kube(validation = Rule::new(OPTIONS_KEEP_THE_LOGIN_OF_OTHERS).message("options must not change the login or the check of the server: the operator sets its mode, the certificate, the key and the CA"))]
#[x_kube(validation = Rule::new(OPTIONS_FIT_THE_ADDRESS).message("srvMaxHosts and srvServiceName need srv; directConnection=true needs a single host in hosts, loadBalanced=true a single host or srv"))]
pub struct Connection {
    /// The kind of database: `mongodb`, `postgresql`, or `mysql`, which is also for MariaDB.
    #[serde(default, rename = "type")]
    pub database_type: DatabaseType,
    /// The database servers, as `host` or `host:port`: a name in lower-case ASCII, an IPv4 address, or an IPv6 address in
    /// brackets. The default port is 27017, 5432 or 3306.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 32), inner(length(min = 1, max = 259)))]
    #[x_kube(validation = Rule::new(HOSTS_ARE_VALID).message("each of hosts must be a host name in lower-case ASCII, an IPv4 address, or an IPv6 address in brackets, and may have a port from 1 to 65535, as in db-0.example:27017"))]
    pub hosts: Vec<String>,
    /// Instead of `hosts`, for MongoDB: the name under which DNS lists the servers, as in `mongodb+srv://`, such as
    /// `cluster0.ab1cd.mongodb.net`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = Rule::new(concat!("self.matches('^", host_name!(), "$') && !self.matches('^[0-9.]+$')")).message("srv must be a host name in lower-case ASCII, without mongodb+srv:// and without a port"))]
    pub srv: Option<String>,
    /// The database to use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^\P{Cc}+$"))]
    pub database: Option<String>,
    /// Further options of the `uri`, in this order, such as `replicaSet` or `application_name`. Whoever reads the Secret's
    /// `uri` uses them; the operator does not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    #[x_kube(validation = Rule::new("self.all(o, o.name.lowerAscii() == 'readpreferencetags' || self.exists_one(p, p.name.lowerAscii() == o.name.lowerAscii()))").message("only readPreferenceTags may be in options more than once"))]
    pub options: Vec<ConnectionOption>,
    /// Where pods mount the Secret. The `uri` names the files of the certificate below this path.
    #[schemars(length(max = 512))]
    #[x_kube(validation = Rule::new(is_path!("self")).message("mountPath must be an absolute path of letters, digits, '.', '_' and '-', without a slash at its end, such as /var/run/database"))]
    pub mount_path: String,
    /// The CA certificates by which clients verify the database server. `ca.crt` means the entry of this Secret: right if one
    /// CA signs for the users and for the servers. An absolute path means a file that pods have from elsewhere. By default
    /// MongoDB's drivers use the CAs of their system, which is right for Atlas; the other types need this field.
    #[serde(default, rename = "serverCAFile", skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    #[x_kube(validation = Rule::new(concat!("self == 'ca.crt' || ", is_path!("self"))).message("serverCAFile must be ca.crt, or an absolute path of letters, digits, '.', '_' and '-'"))]
    pub server_ca_file: Option<String>,
    /// Who provides the database, for the entry `provider` (servicebinding.io), such as `atlas`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^\P{Cc}+$"))]
    pub provider: Option<String>,
}

/// The kinds of databases.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
pub enum DatabaseType {
    /// MongoDB, as a service or self-hosted.
    #[default]
    #[serde(rename = "mongodb")]
    MongoDb,
    /// PostgreSQL.
    #[serde(rename = "postgresql")]
    PostgreSql,
    /// MySQL and MariaDB.
    #[serde(rename = "mysql")]
    MySql,
}

impl DatabaseType {
    /// The name, as in the spec and in the entry `type`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::MongoDb => "mongodb",
            Self::PostgreSql => "postgresql",
            Self::MySql => "mysql",
        }
    }

    /// The port of a host without one.
    #[must_use]
    pub const fn default_port(self) -> &'static str {
        match self {
            Self::MongoDb => "27017",
            Self::PostgreSql => "5432",
            Self::MySql => "3306",
        }
    }
}

/// An option of a connection string.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
pub struct ConnectionOption {
    /// The option's name.
    #[schemars(length(max = 64), regex(pattern = r"^[A-Za-z][A-Za-z0-9_.-]*$"))]
    pub name: String,
    /// Its value as plain text: the operator encodes it.
    #[schemars(length(max = 256), regex(pattern = r"^\P{Cc}*$"))]
    pub value: String,
}
