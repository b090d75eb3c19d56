"""A personal site with a login, which shows its owner's mind: `flask --app app run`, or under gunicorn.

What the mind needs of it are the ten lines marked below; the rest is the site that was there before.
"""

from __future__ import annotations

import os
import secrets
import time
from functools import wraps
from typing import TYPE_CHECKING

import jwt
from flask import Flask, abort, redirect, render_template, request, session, url_for

if TYPE_CHECKING:
    from collections.abc import Callable

    from flask.typing import ResponseReturnValue

app = Flask(__name__)
app.config.update(
    SECRET_KEY=os.environ.get("SITE_KEY") or secrets.token_hex(32),
    SESSION_COOKIE_HTTPONLY=True,
    SESSION_COOKIE_SAMESITE="Strict",
    SESSION_COOKIE_SECURE=os.environ.get("SITE_WITHOUT_TLS") != "1",  # to try it on one machine
)
PASSWORD = os.environ["SITE_PASSWORD"]


def for_its_owner(view: Callable[[], ResponseReturnValue]) -> Callable[[], ResponseReturnValue]:
    """Let nobody in who has not logged in."""

    @wraps(view)
    def guarded() -> ResponseReturnValue:
        return view() if session.get("user") else abort(401)

    return guarded


# --- the mind: ten lines
BROADCAST_SECRET = os.environ["BROADCAST_SECRET"]  # the bridge has the same; it never leaves the server
MIND_URL = os.environ.get("MIND_URL", "/mind/")  # where nginx serves the bridge, under this site's own name


@app.get("/mind-token")
@for_its_owner
def mind_token() -> ResponseReturnValue:
    """A pass for the next five minutes; the page asks for another one whenever it connects."""
    claims = {"sub": session["user"], "jti": secrets.token_hex(12), "aud": "broadcast"}
    claims |= {"exp": int(time.time()) + 300, "types": ["*", "-context.*"]}
    return {"token": jwt.encode(claims, BROADCAST_SECRET, "HS256")}, {"Cache-Control": "no-store"}


# --- the site


@app.get("/")
def home() -> ResponseReturnValue:
    """The mind, for who has logged in; the door for everybody else."""
    return render_template("home.html", mind_url=MIND_URL) if session.get("user") else render_template("login.html")


@app.post("/login")
def login() -> ResponseReturnValue:
    """Compare the password, in the same time whatever it is."""
    if not secrets.compare_digest(request.form.get("password", "").encode(), PASSWORD.encode()):
        return render_template("login.html", is_wrong=True), 403
    session["user"] = "owner"
    return redirect(url_for("home"))


@app.post("/logout")
def logout() -> ResponseReturnValue:
    """Forget who it was; a page that is open stays connected until its pass ends, five minutes at the most."""
    session.clear()
    return redirect(url_for("home"))


@app.after_request
def strict(response: ResponseReturnValue) -> ResponseReturnValue:
    """Nothing but this site's own files runs here, whatever stands in an event."""
    response.headers.setdefault(
        "Content-Security-Policy",
        f"default-src 'none'; script-src 'self' {_origin(MIND_URL)}; style-src 'self'; form-action 'self'; "
        f"connect-src 'self' {_origin(MIND_URL)} {_origin(MIND_URL).replace('http', 'ws', 1)}; base-uri 'none'; "
        "frame-ancestors 'none'",
    )
    response.headers.setdefault("X-Content-Type-Options", "nosniff")
    response.headers.setdefault("Referrer-Policy", "no-referrer")
    return response


def _origin(url: str) -> str:
    return "/".join(url.split("/")[:3]) if "://" in url else ""
