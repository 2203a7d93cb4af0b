"""Simulated gateways, which are clients of the API; used by `tidegauge simulate` and `make demo`."""

from app.simulate.demo import demo_gateways
from app.simulate.display import render_summary
from app.simulate.plan import Plan
from app.simulate.receiver import demo_receiver
from app.simulate.run import simulate

__all__ = ["Plan", "demo_gateways", "demo_receiver", "render_summary", "simulate"]
