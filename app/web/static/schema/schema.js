/** The API's documentation in Swagger UI, or how to install it. */

const script = document.createElement("script");
script.src = new URL("../vendor/swagger-ui/swagger-ui.js", import.meta.url);
script.onload = () => {
  window.SwaggerUIBundle({
    url: new URL("../../schema/openapi.json", import.meta.url).href,
    domNode: document.getElementById("swagger-ui"),
    deepLinking: true,
    validatorUrl: null,
    persistAuthorization: false,
    tryItOutEnabled: true,
  });
};
script.onerror = () => {
  document.getElementById("missing").hidden = false;
};
document.head.append(script);
