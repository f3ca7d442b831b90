//! Where the cgroup hierarchies are, from what the kernel tells this process.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Where cgroup2 is mounted.
pub(super) fn unified() -> Option<PathBuf> {
    let text = fs::read_to_string("/proc/self/mountinfo").ok()?;
    parse(&text).find(|mount| mount.kind == "cgroup2").map(|mount| mount.point)
}

/// The directory of this process's own cgroup in the version 1 hierarchy of a controller.
pub(super) fn own_v1(controller: &str) -> Option<PathBuf> {
    let mountinfo = fs::read_to_string("/proc/self/mountinfo").ok()?;
    let own = fs::read_to_string("/proc/self/cgroup").ok()?;
    place_v1(&mountinfo, &own, controller)
}

fn place_v1(mountinfo: &str, own: &str, controller: &str) -> Option<PathBuf> {
    let mount = parse(mountinfo).find(|mount| {
        mount.kind == "cgroup" && mount.options.split(',').any(|option| option == controller)
    })?;
    let own = own.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        fields.next()?.split(',').any(|name| name == controller).then(|| fields.next())?
    })?;
    // In a container the mount shows a part of the hierarchy only.
    let below = Path::new(own).strip_prefix(&mount.root).ok()?;
    Some(mount.point.join(below))
}

/// The directory of the version 2 cgroup that a `/proc/PID/cgroup` names.
pub(super) fn place(cgroup: &str) -> Option<PathBuf> {
    place_unified(&fs::read_to_string("/proc/self/mountinfo").ok()?, cgroup)
}

fn place_unified(mountinfo: &str, cgroup: &str) -> Option<PathBuf> {
    let mount = parse(mountinfo).find(|mount| mount.kind == "cgroup2")?;
    let path = cgroup.lines().find_map(|line| line.strip_prefix("0::"))?;
    // A cgroup that was removed while somebody is in it is shown so.
    let path = path.strip_suffix(" (deleted)").unwrap_or(path);
    let below = Path::new(path).strip_prefix(&mount.root).ok()?;
    // Joining nothing would leave a slash at the end.
    Some(mount.point.join(below).components().collect())
}

struct Mount<'a> {
    root: PathBuf,
    point: PathBuf,
    kind: &'a str,
    options: &'a str,
}

fn parse(mountinfo: &str) -> impl Iterator<Item = Mount<'_>> {
    mountinfo.lines().filter_map(|line| {
        let (mount, file_system) = line.split_once(" - ")?;
        let mut mount = mount.split(' ').skip(3);
        let (root, point) = (unescape(mount.next()?), unescape(mount.next()?));
        let mut file_system = file_system.split(' ');
        let (kind, options) = (file_system.next()?, file_system.nth(1)?);
        Some(Mount { root, point, kind, options })
    })
}

/// Blanks, tabs, line ends and backslashes are octal in this file.
fn unescape(field: &str) -> PathBuf {
    let codes = [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")];
    let text = codes.iter().fold(field.to_owned(), |text, (code, plain)| text.replace(code, plain));
    PathBuf::from(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "\
31 23 0:28 / /sys/fs/cgroup rw shared:9 - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 /docker/7 /sys/fs/cgroup/my\\040memory rw shared:2 master:1 - cgroup cgroup rw,memory
41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
";

    #[test]
    fn finds_hierarchies_of_a_hybrid_machine() {
        let unified = parse(HYBRID).find(|mount| mount.kind == "cgroup2").unwrap();
        assert_eq!(unified.point, Path::new("/sys/fs/cgroup/unified"));
        let own = "8:memory:/docker/7/a\n4:cpu,cpuacct:/user\n0::/x\n";
        let place = |controller| place_v1(HYBRID, own, controller);
        assert_eq!(place("memory"), Some("/sys/fs/cgroup/my memory/a".into()));
        assert_eq!(place("cpu"), Some("/sys/fs/cgroup/cpu,cpuacct/user".into()));
        assert_eq!(place("pids"), None);
    }

    #[test]
    fn an_own_cgroup_outside_the_mount_is_of_no_use() {
        assert_eq!(place_v1(HYBRID, "8:memory:/elsewhere\n", "memory"), None);
    }
}
