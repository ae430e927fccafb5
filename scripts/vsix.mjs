// A .vsix: a zip of the extension's files with a manifest for the gallery and a list of content types, as VS Code installs it
// (zip: APPNOTE.TXT 6.3, sections 4.3.7, 4.3.12 and 4.3.16; no zip64, which an extension never needs).
import { readFileSync } from 'node:fs';
import { extname, relative, sep } from 'node:path';
import { crc32, deflateRawSync } from 'node:zlib';

const TYPES = {
  '.json': 'application/json',
  '.js': 'application/javascript',
  '.mjs': 'application/javascript',
  '.md': 'text/markdown',
  '.png': 'image/png',
  '.txt': 'text/plain',
  '.wasm': 'application/wasm',
  '.vsixmanifest': 'text/xml',
};

/** The same files always give the same bytes: 1 January 1980, the first day that a zip knows. */
const DOS_DATE = 0x21;
const UTF8_NAMES = 0x800;
const DEFLATED = 8;
const VERSION = 20;

/** `files`: absolute paths below `folder`. `manifest`: the extension's package.json. Returns the bytes. */
export function vsixOf(manifest, folder, files) {
  const unknown = files.filter((file) => !Object.hasOwn(TYPES, extname(file)));
  if (unknown.length > 0)
    throw new Error(`expected files of ${Object.keys(TYPES).join(' ')}, got ${unknown.join(', ')}`);
  return zip([
    ['extension.vsixmanifest', Buffer.from(galleryManifest(manifest))],
    ['[Content_Types].xml', Buffer.from(contentTypes())],
    ...files.map((file) => [`extension/${relative(folder, file).replaceAll(sep, '/')}`, readFileSync(file)]),
  ]);
}

const escapeXml = (text) => String(text).replace(/[<>&"']/g, (character) => `&#${character.charCodeAt(0)};`);

function contentTypes() {
  const rows = Object.entries(TYPES).map(([end, type]) => `<Default Extension="${end}" ContentType="${type}"/>`);
  const head = '<?xml version="1.0" encoding="utf-8"?>\n';
  return `${head}<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types">${rows.join('')}</Types>\n`;
}

function galleryManifest(manifest) {
  const { name, publisher, version, displayName, description, keywords, categories, engines } = manifest;
  const { icon, galleryBanner, pricing } = manifest;
  const property = (id, value) => `<Property Id="Microsoft.VisualStudio.${id}" Value="${escapeXml(value)}"/>`;
  const asset = (type, path) =>
    `<Asset Type="Microsoft.VisualStudio.${type}" Path="extension/${path}" Addressable="true"/>`;
  return `<?xml version="1.0" encoding="utf-8"?>
<PackageManifest Version="2.0.0" xmlns="http://schemas.microsoft.com/developer/vsx-schema/2011">
  <Metadata>
    <Identity Language="en-US" Id="${escapeXml(name)}" Version="${escapeXml(version)}" Publisher="${escapeXml(publisher)}"/>
    <DisplayName>${escapeXml(displayName)}</DisplayName>
    <Description xml:space="preserve">${escapeXml(description)}</Description>
    <Tags>${escapeXml(keywords.join(','))}</Tags>
    <Categories>${escapeXml(categories.join(','))}</Categories>
    <GalleryFlags>Public</GalleryFlags>
    <Properties>
      ${property('Code.Engine', engines.vscode)}
      ${property('Code.ExtensionKind', 'workspace,web')}
      ${property('Services.Branding.Color', galleryBanner.color)}
      ${property('Services.Branding.Theme', galleryBanner.theme)}
      ${property('Services.Content.Pricing', pricing)}
    </Properties>
    <License>extension/LICENSE.txt</License>
    <Icon>extension/${escapeXml(icon)}</Icon>
  </Metadata>
  <Installation><InstallationTarget Id="Microsoft.VisualStudio.Code"/></Installation>
  <Dependencies/>
  <Assets>
    ${asset('Code.Manifest', 'package.json')}
    ${asset('Services.Content.Details', 'README.md')}
    ${asset('Services.Content.Changelog', 'CHANGELOG.md')}
    ${asset('Services.Icons.Default', icon)}
    ${asset('Services.Content.License', 'LICENSE.txt')}
  </Assets>
</PackageManifest>
`;
}

/** Entries as [name, bytes]. */
function zip(entries) {
  const locals = [];
  const central = [];
  let offset = 0;
  for (const [name, bytes] of entries) {
    const packed = deflateRawSync(bytes, { level: 9 });
    const encoded = Buffer.from(name);
    const common = Buffer.alloc(26);
    common.writeUInt16LE(VERSION, 0);
    common.writeUInt16LE(UTF8_NAMES, 2);
    common.writeUInt16LE(DEFLATED, 4);
    common.writeUInt16LE(0, 6);
    common.writeUInt16LE(DOS_DATE, 8);
    common.writeUInt32LE(crc32(bytes), 10);
    common.writeUInt32LE(packed.length, 14);
    common.writeUInt32LE(bytes.length, 18);
    common.writeUInt16LE(encoded.length, 22);
    locals.push(Buffer.from('PK\x03\x04'), common, encoded, packed);
    const behind = Buffer.alloc(14); // comment, disk, attributes: none
    behind.writeUInt32LE(offset, 10);
    const madeBy = Buffer.from([VERSION, 0]);
    central.push(Buffer.from('PK\x01\x02'), madeBy, common, behind, encoded);
    offset += 4 + common.length + encoded.length + packed.length;
  }
  const directory = Buffer.concat(central);
  const end = Buffer.alloc(18);
  end.writeUInt16LE(entries.length, 4);
  end.writeUInt16LE(entries.length, 6);
  end.writeUInt32LE(directory.length, 8);
  end.writeUInt32LE(offset, 12);
  return Buffer.concat([...locals, directory, Buffer.from('PK\x05\x06'), end]);
}
