//! `riser certs`: the certificates of a cluster.

use crate::cli::{Format, cluster::Certs};
use crate::output;
use crate::processes::certificates;
use riser_proto::access::role::Role;

/// Writes the certificates and prints which file goes where.
pub(crate) fn run(arguments: &Certs, format: Format) -> anyhow::Result<()> {
    let files = certificates::write(&arguments.folder, &arguments.hosts)?;
    if format == Format::Json {
        return output::json(&files);
    }
    let folder = arguments.folder.display();
    let line = |role| format!("{role:<12} {folder}/ca.pem {folder}/{role}.pem {folder}/{role}.key\n");
    let lines: Vec<String> = Role::ALL.map(Role::name).map(line).into();
    output::data(format!(
        "{}keep apart   {folder}/ca.key, which signs further certificates\n\nset `cluster.security = \"mtls\"` and \
         `cluster.certificates = \"{folder}\"`\n",
        lines.concat()
    ))
}
