"""The built-in page.

`routes` serves the files of `static/`, and `vendor` finds the libraries that come from Python packages. Read the files
of `static/` in this order:

- `page.html`, and `page.js`, which wires all the rest; `icon.svg` is the icon.
- `core`: requests, formats, the DOM, addresses of views. It knows nothing about sensors and alerts.
- `live`: follows the feed and holds the state of all sensors and alerts.
- `head`: the key, the connection, the summary and the shortcuts at the top of the page.
- `overview`: open alerts, gateways and problems. `sensors`: the table of sensors.
- `views`: the views of one sensor or alert, and the lists of rules, silences and deliveries.
- `actions`: dialogs that acknowledge, silence and change.
- `style`: the style sheets. `schema.html` and `schema`: the OpenAPI document in Swagger UI.
"""
