"""Rules that `tidegauge up --demo` adds to the folder's: channels to its receiver, and a rule that needs them."""

#: With this variable, which `tidegauge up --demo` sets, there are the channels that send to the receiver of the demo.
DEMO_VARIABLE = "CHANNEL_DEMO_URL"
DEMO_RULES = {
    "the rules of the demo": f"""version: 1
channels:
  demo: {{type: ntfy, url: "${{{DEMO_VARIABLE}}}", topic: demo}}
  demo-duty: {{type: ntfy, url: "${{{DEMO_VARIABLE}}}", topic: demo-duty}}
  demo-boss: {{type: ntfy, url: "${{{DEMO_VARIABLE}}}", topic: demo-boss}}
rules:
  - name: dairy-offline
    kind: gateway_offline
    gateways: "gw-dairy*"
    after: 2m
    group_by: [site]
    notify: [demo, {{to: demo-duty, tags: {{site: dairy}}}}]
    escalate: {{after: 3m, notify: [demo-boss]}}
"""
}
#: Rules without `notify` do not send to these.
NAMED_ONLY = frozenset({"demo-duty", "demo-boss"})
