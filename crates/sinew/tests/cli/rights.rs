//! What only root may do, asked for by another user.

use std::os::unix::fs::PermissionsExt as _;

use crate::{Ended, Host, up};

const NOBODY: u32 = 65534;

/// Without an agent, in a directory that everybody may write to.
async fn as_another_user(host: &Host, arguments: &[&str]) -> Ended {
    let open = std::fs::Permissions::from_mode(0o777);
    std::fs::set_permissions(host.path(), open).unwrap();
    let mut command = host.command(arguments);
    command.env_remove("SINEW_SOCKET").env("SINEW_RUN", host.path().join("run"));
    if rustix::process::geteuid().is_root() {
        command.gid(NOBODY).uid(NOBODY);
    }
    let ended = Ended(command.output().await.unwrap());
    for made in ["run", "state"] {
        assert!(!host.path().join(made).exists(), "{made} was made");
    }
    ended
}

#[tokio::test]
async fn an_agent_of_another_user_is_refused() {
    let ended = as_another_user(&Host::new(), &["agent"]).await;
    assert_eq!(
        ended.stderr(),
        "error: the agent needs root: it makes cgroups, loads kernel programs and changes users\n\
         help: use sudo\n"
    );
    assert_eq!((ended.status(), ended.stdout()), (1, ""));
}

#[tokio::test]
async fn up_of_another_user_starts_no_agent() {
    let host = up::host();
    for arguments in [&["up"][..], &["up", "-d"]] {
        let ended = as_another_user(&host, arguments).await;
        let socket = host.path().join("run/api.sock");
        assert_eq!(
            ended.stderr(),
            format!(
                "error: only root can start the agent, and no agent answers at {}\nhelp: use sudo, \
                 or have a service manager start `sinew agent` and join the group sinew\n",
                socket.display()
            )
        );
        assert_eq!((ended.status(), ended.stdout()), (1, ""));
    }
}
