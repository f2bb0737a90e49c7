# The node: receiving process, stages, and CPU workers unless workers.count is 0. torch is there for these, and for
# `dicom-node models`; the receiving process never loads it.
FROM python:3.12-slim
RUN useradd --create-home --uid 10001 node
WORKDIR /srv
COPY pyproject.toml README.md ./
COPY storage storage
COPY dicom_node dicom_node
COPY inference inference
RUN pip install --no-cache-dir '.[node,worker,cluster]'
# A new volume takes its owner from the image.
RUN install --directory --owner=node --group=node /var/lib/dicom-node
USER node
VOLUME /var/lib/dicom-node
EXPOSE 11112
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=5s CMD test -e /var/lib/dicom-node/run/ready.json
ENTRYPOINT ["dicom-node"]
CMD ["serve", "-c", "/etc/dicom-node/node.toml"]
