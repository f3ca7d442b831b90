//! The other sides of the agent: a process that joins, and a caller without rights.

use std::{io::Read as _, process::ExitCode};

use sinew_api::{Attach, Client};
use sinew_model::Project;

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

/// `member SOCKET [SERVICE]`: joins, says so, and stays until standard input ends.
pub(crate) fn join(arguments: &[String]) -> ExitCode {
    let service = arguments.get(1).map(|name| name.parse().unwrap());
    let attach = Attach { service, ports: Vec::new(), command: "member".to_owned() };
    let attached =
        block_on(async { Client::connect(&arguments[0]).await.unwrap().attach(&attach).await });
    match attached {
        Ok(attached) => println!("{}", serde_json::to_string(&attached).unwrap()),
        Err(error) => {
            println!("{error}");
            return ExitCode::FAILURE;
        }
    }
    std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
    ExitCode::SUCCESS
}

/// `apply SOCKET UID PROJECT [GROUP]`: applies as another user, who is in this group too, and says
/// what came of it.
pub(crate) fn apply(arguments: &[String]) -> ExitCode {
    let uid = rustix::process::Uid::from_raw(arguments[1].parse().unwrap());
    let groups =
        arguments[3..].iter().map(|gid| rustix::process::Gid::from_raw(gid.parse().unwrap()));
    rustix::thread::set_thread_groups(&groups.collect::<Vec<_>>()).unwrap();
    rustix::thread::set_thread_res_gid(
        rustix::process::Gid::from_raw(uid.as_raw()),
        rustix::process::Gid::from_raw(uid.as_raw()),
        rustix::process::Gid::from_raw(uid.as_raw()),
    )
    .unwrap();
    rustix::thread::set_thread_res_uid(uid, uid, uid).unwrap();
    let project: Project = serde_json::from_str(&arguments[2]).unwrap();
    let applied =
        block_on(async { Client::connect(&arguments[0]).await.unwrap().apply(&project).await });
    match applied {
        Ok(_) => println!("applied"),
        Err(error) => println!("{error}"),
    }
    ExitCode::SUCCESS
}
