//! Users and groups from the files of the machine.

use std::{collections::BTreeSet, fs};

use super::RightsError;

/// Who a workload runs as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Account {
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) groups: Vec<u32>,
    pub(super) name: Option<String>,
    pub(super) home: Option<String>,
}

/// The texts of `/etc/passwd` and `/etc/group`.
#[derive(Debug)]
pub struct Databases {
    passwd: String,
    group: String,
}

struct User<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

struct Group<'a> {
    name: &'a str,
    gid: u32,
    members: &'a str,
}

impl Databases {
    /// # Errors
    /// When one of them cannot be read.
    pub fn read() -> Result<Self, RightsError> {
        let read = |path: &str| {
            fs::read(path)
                .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
                .map_err(|e| RightsError::Unreadable { path: path.to_owned(), errno: e.into() })
        };
        Ok(Self { passwd: read("/etc/passwd")?, group: read("/etc/group")? })
    }

    /// The number of a user, by name or as a number.
    ///
    /// # Errors
    /// When there is none.
    pub fn user_number(&self, name: &str) -> Result<u32, RightsError> {
        self.user(name).map(|(uid, _)| uid)
    }

    /// The number of a group, by name or as a number.
    ///
    /// # Errors
    /// When there is none.
    pub fn group_number(&self, name: &str) -> Result<u32, RightsError> {
        self.group(name)
    }

    /// The supplementary groups of a user.
    pub fn groups(&self, uid: u32) -> Vec<u32> {
        let found = self.users().find(|user| user.uid == uid);
        found.map_or_else(Vec::new, |user| self.groups_of(user.name).into_iter().collect())
    }

    /// The named user, else the caller; in the named group, else its own. The supplementary groups
    /// are the user's.
    pub(super) fn account(
        &self,
        user: Option<&str>,
        group: Option<&str>,
        caller: (u32, u32),
    ) -> Result<Account, RightsError> {
        let group = group.map(|group| self.group(group)).transpose()?;
        let (uid, found) = match user {
            None => (caller.0, self.users().find(|found| found.uid == caller.0)),
            Some(name) => self.user(name)?,
        };
        let own = if user.is_none() { Some(caller.1) } else { found.as_ref().map(|u| u.gid) };
        let gid = group.or(own).ok_or(RightsError::GroupUnknown { uid })?;
        let mut groups = found.as_ref().map_or_else(BTreeSet::new, |u| self.groups_of(u.name));
        groups.insert(gid);
        groups.extend(own);
        Ok(Account {
            uid,
            gid,
            groups: groups.into_iter().collect(),
            name: found.as_ref().map(|u| u.name.to_owned()),
            home: found.as_ref().map(|u| u.home.to_owned()),
        })
    }

    fn user(&self, name: &str) -> Result<(u32, Option<User<'_>>), RightsError> {
        if let Some(found) = self.users().find(|user| user.name == name) {
            return Ok((found.uid, Some(found)));
        }
        let uid = number(name).ok_or_else(|| RightsError::NoUser { user: name.to_owned() })?;
        Ok((uid, self.users().find(|user| user.uid == uid)))
    }

    fn group(&self, name: &str) -> Result<u32, RightsError> {
        let found = self.all_groups().find(|group| group.name == name).map(|group| group.gid);
        found
            .or_else(|| number(name))
            .ok_or_else(|| RightsError::NoGroup { group: name.to_owned() })
    }

    fn groups_of(&self, user: &str) -> BTreeSet<u32> {
        let groups =
            self.all_groups().filter(|g| g.members.split(',').any(|member| member == user));
        groups.map(|group| group.gid).collect()
    }

    fn users(&self) -> impl Iterator<Item = User<'_>> {
        self.passwd.lines().filter_map(|line| {
            let fields: Vec<&str> = line.split(':').collect();
            let [name, _, uid, gid, _, home, ..] = fields[..] else { return None };
            Some(User { name, uid: uid.parse().ok()?, gid: gid.parse().ok()?, home })
        })
    }

    fn all_groups(&self) -> impl Iterator<Item = Group<'_>> {
        self.group.lines().filter_map(|line| {
            let mut fields = line.split(':');
            let (name, gid) = (fields.next()?, fields.nth(1)?.parse().ok()?);
            Some(Group { name, gid, members: fields.next().unwrap_or_default() })
        })
    }
}

/// The largest number means "leave it as it is" to the kernel: it would run as root.
fn number(text: &str) -> Option<u32> {
    text.parse().ok().filter(|number| *number != u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn databases() -> Databases {
        Databases {
            passwd: "root:x:0:0:root:/root:/bin/sh\nwww:x:33:33::/var/www:/bin/false\n\
                     +nis\nbroken:x:a:b::/:/\n7:x:70:71::/seven:/\n"
                .into(),
            group: "root:x:0:\nwww:x:33:\nssl:x:90:www,other\nlogs:x:91:other\n".into(),
        }
    }

    #[test]
    fn finds_users_and_groups() {
        let find = |user, group| databases().account(user, group, (1000, 1001)).unwrap();
        let ids = |account: Account| (account.uid, account.gid, account.groups);
        assert_eq!(ids(find(Some("www"), None)), (33, 33, vec![33, 90]));
        assert_eq!(ids(find(Some("33"), None)), (33, 33, vec![33, 90]));
        assert_eq!(ids(find(Some("www"), Some("logs"))), (33, 91, vec![33, 90, 91]));
        assert_eq!(ids(find(None, None)), (1000, 1001, vec![1001]));
        assert_eq!(ids(find(Some("5000"), Some("6"))), (5000, 6, vec![6]));
        assert_eq!(find(Some("7"), None).uid, 70, "a name comes before a number");
        assert_eq!(find(Some("www"), None).home.as_deref(), Some("/var/www"));
    }

    #[test]
    fn says_who_does_not_exist() {
        let find = |user, group| databases().account(user, group, (0, 0)).unwrap_err();
        assert!(matches!(find(Some("wwww"), None), RightsError::NoUser { user } if user == "wwww"));
        assert!(matches!(find(None, Some("nope")), RightsError::NoGroup { .. }));
        assert!(matches!(find(Some("broken"), None), RightsError::NoUser { .. }));
        assert!(matches!(find(Some("4294967295"), Some("0")), RightsError::NoUser { .. }));
        assert_eq!(find(Some("5000"), None), RightsError::GroupUnknown { uid: 5000 });
    }
}
