//! Whose connection it is.

use std::fs;

/// Connections of this machine, as the kernel shows them.
const TABLE: &str = "/proc/net/tcp";
/// Columns of that.
const LOCAL_ADDRESS: usize = 1;
const INODE: usize = 9;

/// The connection from this port of the machine's own IPv4 interface is the process's.
pub fn is_of(pid: u32, port: u16) -> bool {
    let table = fs::read_to_string(TABLE).expect("connections can be listed");
    let port = format!(":{port:04X}");
    let inode = table.lines().find_map(|line| {
        let columns: Vec<&str> = line.split_whitespace().collect();
        let is_it = columns.get(LOCAL_ADDRESS).is_some_and(|address| address.ends_with(&port));
        columns.get(INODE).filter(|_| is_it).map(|inode| format!("socket:[{inode}]"))
    });
    // A process that has ended has none.
    let open = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    let mut links = open.filter_map(|file| fs::read_link(file.path()).ok());
    inode.is_some_and(|inode| links.any(|link| link.as_os_str() == inode.as_str()))
}

#[tokio::test]
async fn a_connection_is_of_the_process_that_has_it() {
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let client = tokio::net::TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let port = client.local_addr().unwrap().port();

    assert!(is_of(std::process::id(), port));
    assert!(!is_of(std::process::id(), listener.local_addr().unwrap().port().wrapping_add(1)));
    assert!(!is_of(1, port));
    drop(client);
}
