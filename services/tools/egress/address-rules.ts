// Which addresses the egress guard dials: plain unicast of the public internet. Everything that is special somewhere (IANA's
// registries of special-purpose addresses, metadata services of clouds, forms that carry another address inside) is refused.
import { BlockList, isIP } from 'node:net';

const REFUSED: readonly (readonly ['ipv4' | 'ipv6', string, number])[] = [
  ['ipv4', '0.0.0.0', 8], // this network
  ['ipv4', '10.0.0.0', 8],
  ['ipv4', '100.64.0.0', 10], // carrier-grade NAT; 100.100.100.200 is a metadata service
  ['ipv4', '127.0.0.0', 8],
  ['ipv4', '168.63.129.16', 32], // Azure's metadata
  ['ipv4', '169.254.0.0', 16], // link-local; 169.254.169.254 is the metadata service
  ['ipv4', '172.16.0.0', 12],
  ['ipv4', '192.0.0.0', 24],
  ['ipv4', '192.0.2.0', 24],
  ['ipv4', '192.31.196.0', 24],
  ['ipv4', '192.52.193.0', 24],
  ['ipv4', '192.88.99.0', 24], // 6to4 relays
  ['ipv4', '192.168.0.0', 16],
  ['ipv4', '192.175.48.0', 24],
  ['ipv4', '198.18.0.0', 15],
  ['ipv4', '198.51.100.0', 24],
  ['ipv4', '203.0.113.0', 24],
  ['ipv4', '224.0.0.0', 3], // multicast, reserved, broadcast
  ['ipv6', '2001::', 23], // Teredo, benchmarking, ORCHID and the like
  ['ipv6', '2001:db8::', 32],
  ['ipv6', '2002::', 16], // 6to4
  ['ipv6', '2620:4f:8000::', 48],
  ['ipv6', '3fff::', 20], // documentation
];

const refused = new BlockList();
for (const [family, network, prefix] of REFUSED) refused.addSubnet(network, prefix, family);
/** Of IPv6 only global unicast is dialled: everything outside 2000::/3 is local, mapped, translated or reserved. */
const globalUnicast = new BlockList();
globalUnicast.addSubnet('2000::', 3, 'ipv6');

/** `address`: as the resolver wrote it. Zones ("fe80::1%eth0") and anything that is no address are not public. */
export function isPublicAddress(address: string): boolean {
  const family = isIP(address);
  if (family === 0 || address.includes('%')) return false;
  if (family === 4) return !refused.check(address, 'ipv4');
  return globalUnicast.check(address, 'ipv6') && !refused.check(address, 'ipv6');
}
