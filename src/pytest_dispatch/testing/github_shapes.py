"""Builds GitHub's JSON answers, with every field that its OpenAPI description requires.

https://github.com/github/rest-api-description (the version of 2022-11-28).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from datetime import datetime

    from pytest_dispatch.testing.github_state import (
        FakeAsset,
        FakeComment,
        FakeIssue,
        FakeMilestone,
        FakeRelease,
        FakeRepo,
    )

_WHO = "octocat"
_LONG_AGO = "2024-01-01T00:00:00Z"

#: A repository's links: key without `_url` → path after the repository's own URL.
_REPO_LINKS = {
    "archive": "/{archive_format}{/ref}",
    "assignees": "/assignees{/user}",
    "blobs": "/git/blobs{/sha}",
    "branches": "/branches{/branch}",
    "collaborators": "/collaborators{/collaborator}",
    "comments": "/comments{/number}",
    "commits": "/commits{/sha}",
    "compare": "/compare/{base}...{head}",
    "contents": "/contents/{+path}",
    "contributors": "/contributors",
    "deployments": "/deployments",
    "downloads": "/downloads",
    "events": "/events",
    "forks": "/forks",
    "git_commits": "/git/commits{/sha}",
    "git_refs": "/git/refs{/sha}",
    "git_tags": "/git/tags{/sha}",
    "hooks": "/hooks",
    "issue_comment": "/issues/comments{/number}",
    "issue_events": "/issues/events{/number}",
    "issues": "/issues{/number}",
    "keys": "/keys{/key_id}",
    "labels": "/labels{/name}",
    "languages": "/languages",
    "merges": "/merges",
    "milestones": "/milestones{/number}",
    "notifications": "/notifications{?since,all,participating}",
    "pulls": "/pulls{/number}",
    "releases": "/releases{/id}",
    "stargazers": "/stargazers",
    "statuses": "/statuses/{sha}",
    "subscribers": "/subscribers",
    "subscription": "/subscription",
    "tags": "/tags",
    "teams": "/teams",
    "trees": "/git/trees{/sha}",
}

#: Fields of a new repository.
_REPO_FACTS: dict[str, Any] = {
    "description": None,
    "fork": False,
    "default_branch": "main",
    "forks": 0,
    "forks_count": 0,
    "has_projects": False,
    "has_wiki": False,
    "has_pages": False,
    "has_discussions": False,
    "homepage": None,
    "language": None,
    "archived": False,
    "disabled": False,
    "mirror_url": None,
    "license": None,
    "size": 0,
    "stargazers_count": 0,
    "watchers": 0,
    "watchers_count": 0,
    "network_count": 0,
    "subscribers_count": 0,
    "pushed_at": _LONG_AGO,
    "created_at": _LONG_AGO,
    "updated_at": _LONG_AGO,
}

_USER_LINKS = {
    "events": "/events{/privacy}",
    "followers": "/followers",
    "following": "/following{/other_user}",
    "gists": "/gists{/gist_id}",
    "organizations": "/orgs",
    "received_events": "/received_events",
    "repos": "/repos",
    "starred": "/starred{/owner}{/repo}",
    "subscriptions": "/subscriptions",
}


class Shapes:
    """Builds answers whose links lead to one fake.

    Args:
        api: The base URL of the fake's API.
        web: The base URL of the website.
    """

    def __init__(self, api: str, web: str) -> None:
        self._api = api
        self._web = web

    def repo_url(self, repo: FakeRepo) -> str:
        """Return the API's URL of a repository."""
        return f"{self._api}/repos/{repo.name}"

    def html_url(self, repo: FakeRepo) -> str:
        """Return the URL of a repository on the website."""
        return f"{self._web}/{repo.name}"

    def user(self, login: str) -> dict[str, Any]:
        """Return a `simple-user`."""
        url = f"{self._api}/users/{login}"
        links = {f"{key}_url": f"{url}{path}" for key, path in _USER_LINKS.items()}
        return {
            **links,
            "login": login,
            "id": sum(login.encode()),
            "node_id": f"U_{login}",
            "avatar_url": f"{self._web}/avatars/{login}",
            "gravatar_id": "",
            "url": url,
            "html_url": f"{self._web}/{login}",
            "type": "Bot" if login.endswith("[bot]") else "User",
            "site_admin": False,
        }

    def repo(self, repo: FakeRepo) -> dict[str, Any]:
        """Return a `full-repository`."""
        url, html = self.repo_url(repo), self.html_url(repo)
        owner, name = repo.name.split("/")
        still_open = sum(issue.state == "open" for issue in repo.issues)
        links = {f"{key}_url": f"{url}{path}" for key, path in _REPO_LINKS.items()}
        return {
            **_REPO_FACTS,
            **links,
            "id": repo.id,
            "node_id": f"R_{repo.id}",
            "name": name,
            "full_name": repo.name,
            "owner": self.user(owner),
            "private": repo.private,
            "url": url,
            "html_url": html,
            "clone_url": f"{html}.git",
            "git_url": f"{html.replace('http', 'git', 1)}.git",
            "ssh_url": f"git@fake:{repo.name}.git",
            "svn_url": html,
            "has_issues": repo.has_issues,
            "archived": repo.archived,
            "open_issues": still_open,
            "open_issues_count": still_open,
        }

    def release(self, repo: FakeRepo, release: FakeRelease) -> dict[str, Any]:
        """Return a `release`."""
        url, html = f"{self.repo_url(repo)}/releases/{release.id}", self.html_url(repo)
        return {
            "id": release.id,
            "node_id": f"RE_{release.id}",
            "url": url,
            "assets_url": f"{url}/assets",
            "upload_url": f"{url}/assets{{?name,label}}",
            "html_url": f"{html}/releases/tag/{release.tag}",
            "tarball_url": f"{self.repo_url(repo)}/tarball/{release.tag}",
            "zipball_url": f"{self.repo_url(repo)}/zipball/{release.tag}",
            "tag_name": release.tag,
            "target_commitish": "main",
            "name": release.tag,
            "body": "",
            "draft": release.draft,
            "prerelease": False,
            "created_at": moment(release.created),
            "published_at": None if release.draft else moment(release.created),
            "author": self.user(_WHO),
            "assets": [self.asset(repo, release, asset) for asset in release.assets],
        }

    def asset(self, repo: FakeRepo, release: FakeRelease, asset: FakeAsset) -> dict[str, Any]:
        """Return a `release-asset`."""
        return {
            "id": asset.id,
            "node_id": f"RA_{asset.id}",
            "url": f"{self.repo_url(repo)}/releases/assets/{asset.id}",
            "browser_download_url": f"{self.html_url(repo)}/releases/download/{release.tag}/{asset.name}",
            "name": asset.name,
            "label": "",
            "state": asset.state,
            "content_type": asset.content_type,
            "size": asset.size,
            "digest": asset.digest,
            "download_count": 0,
            "created_at": moment(release.created),
            "updated_at": moment(release.created),
            "uploader": self.user(_WHO),
        }

    def milestone(self, repo: FakeRepo, milestone: FakeMilestone) -> dict[str, Any]:
        """Return a `milestone`."""
        url = f"{self.repo_url(repo)}/milestones/{milestone.number}"
        return {
            "id": repo.id * 1000 + milestone.number,
            "node_id": f"MI_{milestone.number}",
            "number": milestone.number,
            "title": milestone.title,
            "state": milestone.state,
            "description": None,
            "url": url,
            "html_url": f"{self.html_url(repo)}/milestone/{milestone.number}",
            "labels_url": f"{url}/labels",
            "creator": self.user(_WHO),
            "open_issues": 0,
            "closed_issues": 0,
            "created_at": _LONG_AGO,
            "updated_at": _LONG_AGO,
            "closed_at": None if milestone.state == "open" else _LONG_AGO,
            "due_on": None,
        }

    def issue(self, repo: FakeRepo, issue: FakeIssue) -> dict[str, Any]:
        """Return an `issue`."""
        url = f"{self.repo_url(repo)}/issues/{issue.number}"
        html = f"{self.html_url(repo)}/issues/{issue.number}"
        who = [self.user(login) for login in issue.assignees]
        pull = {"url": url, "html_url": html, "diff_url": html, "patch_url": html}
        return {
            "id": repo.id * 100000 + issue.number,
            "node_id": f"I_{issue.number}",
            "number": issue.number,
            "title": issue.title,
            "body": issue.body,
            "state": issue.state,
            "locked": issue.locked,
            "user": self.user(issue.author),
            "labels": [self.label(repo, name) for name in issue.labels],
            "assignee": who[0] if who else None,
            "assignees": who,
            "milestone": self.milestone(repo, issue.milestone) if issue.milestone else None,
            "comments": len(issue.comments),
            "author_association": issue.association,
            "url": url,
            "html_url": html,
            "repository_url": self.repo_url(repo),
            "comments_url": f"{url}/comments",
            "events_url": f"{url}/events",
            "labels_url": f"{url}/labels{{/name}}",
            "created_at": moment(issue.created),
            "updated_at": moment(issue.updated()),
            "closed_at": None if issue.state == "open" else moment(issue.created),
            # null where there is none, says GitHub; its description has no null among the values, so that is left out
            **({"state_reason": issue.state_reason} if issue.state_reason else {}),
            **({"pull_request": pull} if issue.pull_request else {}),
        }

    def label(self, repo: FakeRepo, name: str) -> dict[str, Any]:
        """Return a `label`."""
        return {
            "id": sum(name.encode()),
            "node_id": f"LA_{sum(name.encode())}",
            "url": f"{self.repo_url(repo)}/labels/{name}",
            "name": name,
            "description": None,
            "color": "ededed",
            "default": False,
        }

    def comment(self, repo: FakeRepo, issue: FakeIssue, comment: FakeComment) -> dict[str, Any]:
        """Return an `issue-comment`."""
        url = f"{self.repo_url(repo)}/issues"
        html = f"{self.html_url(repo)}/issues/{issue.number}"
        return {
            "id": comment.id,
            "node_id": f"IC_{comment.id}",
            "url": f"{url}/comments/{comment.id}",
            "html_url": f"{html}#issuecomment-{comment.id}",
            "issue_url": f"{url}/{issue.number}",
            "user": self.user(_WHO),
            "body": comment.body,
            "author_association": "OWNER",
            "created_at": moment(comment.created),
            "updated_at": moment(comment.created),
        }


def moment(at: datetime) -> str:
    """Return a time in GitHub's format."""
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")
