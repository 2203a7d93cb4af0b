"""Gateways that behave like real ones: a client of the API, for trying things out and for `make demo`."""

from app.simulate.demo import demo_gateways, server_url
from app.simulate.display import render_summary
from app.simulate.plan import Plan
from app.simulate.receiver import demo_receiver
from app.simulate.run import simulate

__all__ = ["Plan", "demo_gateways", "demo_receiver", "render_summary", "server_url", "simulate"]
